"""Tells people of failed runs: in the log always, by Slack and e-mail where that is set up."""

from __future__ import annotations

import html
import os

import dagster as dg

from reviewsum_assets.automation.jobs import PURPOSE_TAG
from reviewsum_assets.automation.run_failure import read_run_failure
from reviewsum_assets.automation_settings import (
    SLACK_TOKEN_VARIABLE,
    SMTP_PASSWORD_VARIABLE,
    AutomationSettings,
)
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.settings import load_automation_settings


@dg.run_failure_sensor(
    name="alert_on_failure",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Says what failed, why, what landed and what to do: in its log, and to Slack and by "
        "e-mail where the settings slack_channel and alert_email_to name somebody."
    ),
)
def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
    """Log the alert first: whatever is wrong with its delivery, it can be read there."""
    settings = load_automation_settings()
    text = failure_text(context.instance, context.dagster_run, settings.webserver_url)
    context.log.error(text)
    for send, receivers in (
        (_send_to_slack, settings.slack_channel),
        (_send_by_email, ", ".join(settings.alert_email_to)),
    ):
        if receivers:
            try:
                send(context, settings, text)
            except Exception:  # whatever the two libraries raise: the other one still gets it
                context.log.exception(f"the alert could not be sent to {receivers}")
            else:
                context.log.info(f"the alert was sent to {receivers}")


def failure_text(instance: dg.DagsterInstance, run: dg.DagsterRun, webserver_url: str) -> str:
    """What a person needs in order to act, the most important line first."""
    failure = read_run_failure(instance, run.run_id)
    purpose = run.tags.get(PURPOSE_TAG)
    landed = "" if failure.landed is None else f", {failure.landed} partitions landed"
    missing = "" if failure.missing is None else f", {failure.missing} are missing"
    kind = f": {failure.kind}" if failure.kind else ""
    where = f"{webserver_url.rstrip('/')}/runs/{run.run_id}" if webserver_url else run.run_id
    lines = [
        f"{run.job_name} failed{kind}{landed}{missing}",
        f"Why: {failure.message}",
        f"What to do: {failure.what_to_do}" if failure.what_to_do else "",
        f"Launched for: {purpose}" if purpose else "",
        f"Run: {where}",
    ]
    return "\n".join(line for line in lines if line)


def _send_to_slack(
    context: dg.RunFailureSensorContext,  # noqa: ARG001 - as the other one
    settings: AutomationSettings,
    text: str,
) -> None:
    try:
        from dagster_slack import SlackResource
    except ImportError as error:
        raise SettingsError("slack_channel needs the extra `slack`") from error
    client = SlackResource(token=_secret(SLACK_TOKEN_VARIABLE)).get_client()
    client.base_url = f"{settings.slack_api_url.rstrip('/')}/"
    client.chat_postMessage(channel=settings.slack_channel, text=text)


def _send_by_email(
    context: dg.RunFailureSensorContext, settings: AutomationSettings, text: str
) -> None:
    """Let Dagster's own sensor for this look at the failure, with our text."""
    # It sends HTML in ASCII.
    body = html.escape(text).encode("ascii", "xmlcharrefreplace").decode().replace("\n", "<br>\n")
    sensor = dg.make_email_on_run_failure_sensor(
        email_from=settings.alert_email_from,
        email_password=_secret(SMTP_PASSWORD_VARIABLE),
        email_to=settings.alert_email_to,
        email_body_fn=lambda _: body,
        smtp_host=settings.smtp_host,
        smtp_type=settings.smtp_security,
        smtp_port=settings.smtp_port or None,
        smtp_user=settings.smtp_user or None,
    )
    sensor(context)


def _secret(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise SettingsError(f"the environment variable {variable} is not set")
    return value
