"""Alerts of failed runs, to Slack and e-mail; equal reasons within an hour are one alert."""

from __future__ import annotations

import hashlib
import html
import logging
import os
import re
import smtplib
import socket
import ssl
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import dagster as dg
from dagster._core.events import JobFailureData, RunFailureReason

from reviewsum_assets.assets.checks import failed_checks
from reviewsum_assets.assets.dagster_home import last_run_of_this_process, sends_own_alert
from reviewsum_assets.automation.jobs import PURPOSE_TAG
from reviewsum_assets.errors import RunInterrupted, SettingsError
from reviewsum_assets.settings import AutomationSettings, load_automation_settings

_SMTP_PORTS = {"SSL": 465, "STARTTLS": 587}
_SMTP_SECONDS = 60.0


def deliver(text: str, settings: AutomationSettings, log: logging.Logger) -> None:
    """Send an alert, whose first line is the subject, to all receivers in the settings.

    Errors are logged and not raised, so that they do not hide the failure.
    """
    for send, receivers in (
        (_send_to_slack, settings.slack_channel),
        (_send_by_email, ", ".join(settings.alert_email_to)),
    ):
        if receivers:
            try:
                send(text, settings)
            except Exception as error:  # any error of a library: the other receivers get the alert
                why = f"{type(error).__name__}: {error}"
                log.error(f"the alert could not be sent to {receivers}: {why}")  # noqa: TRY400
            else:
                log.info(f"the alert was sent to {receivers}")


def _send_to_slack(text: str, settings: AutomationSettings) -> None:
    try:
        from dagster_slack import SlackResource
    except ImportError as error:
        raise SettingsError("slack_channel needs the extra `slack`") from error
    client = SlackResource(token=_secret("SLACK_BOT_TOKEN")).get_client()
    client.base_url = f"{settings.slack_api_url.rstrip('/')}/"
    # Unescaped, the name of a dump could notify a whole channel, or disguise a link:
    # https://docs.slack.dev/messaging/formatting-message-text#escaping
    client.chat_postMessage(channel=settings.slack_channel, text=html.escape(text, quote=False))


def _send_by_email(text: str, settings: AutomationSettings) -> None:
    mail = EmailMessage()
    mail["Subject"] = f"reviewsum: {text.splitlines()[0]}"
    mail["From"] = settings.alert_email_from
    mail["To"] = ", ".join(settings.alert_email_to)
    mail.set_content(text)
    security, context = settings.smtp_security, ssl.create_default_context()
    port = settings.smtp_port or _SMTP_PORTS[security]
    server: smtplib.SMTP
    if security == "SSL":
        server = smtplib.SMTP_SSL(settings.smtp_host, port, timeout=_SMTP_SECONDS, context=context)
    else:
        server = smtplib.SMTP(settings.smtp_host, port, timeout=_SMTP_SECONDS)
    with server:
        if security == "STARTTLS":
            server.starttls(context=context)
        server.login(settings.smtp_user or settings.alert_email_from, _secret("SMTP_PASSWORD"))
        server.send_message(mail)


def _secret(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise SettingsError(f"the environment variable {variable} is not set")
    return value


@dataclass(frozen=True)
class RunFailure:
    """The first failed step with its message, and the metadata of its failure."""

    message: str
    step: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_run_failure(instance: dg.DagsterInstance, run_id: str) -> RunFailure:
    """Read the failure of a run, or Dagster's own reason if its process died."""
    ends = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    end = ends[-1].event_log_entry.dagster_event if ends else None
    data = end.event_specific_data if end else None
    reason = data.failure_reason if isinstance(data, JobFailureData) else None
    if reason is RunFailureReason.UNEXPECTED_TERMINATION:  # by Ctrl-C or a signal
        return RunFailure("its process was interrupted. Launch it again")
    steps = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    if steps:
        event = steps[0].event_log_entry.dagster_event
        assert event is not None
        return _step_failure(event)
    checks = failed_checks(instance, run_id, is_blocking=True)
    if checks:
        return RunFailure("; ".join(checks.values()), next(iter(checks)))
    noticed = ends[-1].event_log_entry.user_message if ends else ""
    return RunFailure((end and end.message) or noticed or "it ended without a reason")


def _step_failure(event: dg.DagsterEvent) -> RunFailure:
    data, step = event.step_failure_data, event.step_key or ""
    error, raised = data.error, data.user_failure_data
    message = event.message or ""
    if error is not None:
        message = (error.cause or error).message.strip()
        # The name of the exception's class repeats the message.
        name, separator, rest = message.partition(": ")
        message = rest if separator and " " not in name and "." in name else message
    if raised is None:
        return RunFailure(message, step)
    metadata = {name: value.value for name, value in raised.metadata.items()}
    return RunFailure(raised.description or message, step, metadata)


_log = logging.getLogger("reviewsum.alerts")
_REASON_TAG = ".dagster/reviewsum_alert"
_GROUPED_SECONDS = 3600.0
_SUBJECT_CHARS = 120


@dg.run_failure_sensor(
    name="alert_on_failure",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Reports failed runs: asset, reason, partitions landed, remedy. Writes to its log, and to "
        "the receivers in the settings slack_channel and alert_email_to. Runs that fail for the "
        "same reason within an hour are one alert. A run of the command line sends its alert "
        "without this sensor."
    ),
)
def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
    """Log the alert first, so that the log has it if the delivery fails."""
    settings = load_automation_settings()
    run = context.dagster_run
    text = failure_text(context.instance, run, settings.webserver_url)
    context.log.error(text)
    if sends_own_alert(run):
        return
    reason = _reason(text)
    alike = _alerted_alike(context.instance, run, reason)
    context.instance.add_run_tags(run.run_id, {_REASON_TAG: reason})
    if alike:
        context.log.info(f"not sent: run {alike} failed for the same reason within the last hour")
    else:
        deliver(text, settings, context.log)


@contextmanager
def alert_of_failed_command(
    instance: dg.DagsterInstance, settings: AutomationSettings
) -> Iterator[None]:
    """Send an alert, without a daemon, if ``reviewsum run`` fails in this context."""
    try:
        yield
    except RunInterrupted:  # by the person at the terminal
        raise
    except Exception as error:  # raised again
        run = last_run_of_this_process(instance)
        if run is not None and run.status is dg.DagsterRunStatus.FAILURE:
            text = failure_text(instance, run, settings.webserver_url)
        else:
            text = f"reviewsum run failed: {_shortened(str(error))}\nWhy: {error}"
        deliver(f"{text}\nHost: {socket.gethostname()}", settings, _log)
        raise


def failure_text(instance: dg.DagsterInstance, run: dg.DagsterRun, webserver_url: str) -> str:
    """Alert of a failed run; its first line, the subject, names the asset and the reason."""
    failure = read_run_failure(instance, run.run_id)
    known, purpose = failure.metadata, run.tags.get(PURPOSE_TAG)
    landed = f", {known['landed']} partitions landed" if "landed" in known else ""
    missing = f", {known['missing']} are missing" if "missing" in known else ""
    reason = known.get("failure") or _shortened(failure.message)
    where = f"{webserver_url.rstrip('/')}/runs/{run.run_id}" if webserver_url else run.run_id
    lines = [
        f"{failure.step or run.job_name} failed: {reason}{landed}{missing}",
        f"Why: {failure.message}",
        f"What to do: {known['what_to_do']}" if known.get("what_to_do") else "",
        f"Launched for: {purpose}" if purpose else "",
        f"Run: {where} of {run.job_name}",
    ]
    return "\n".join(line for line in lines if line)


def _shortened(message: str) -> str:
    return textwrap.shorten(message, _SUBJECT_CHARS, placeholder=" ...")


def _reason(text: str) -> str:
    """Digest of asset and reason, without numbers, which differ from run to run."""
    subject, why = text.splitlines()[:2]
    return hashlib.sha256(re.sub(r"\d+", "", subject + why).encode()).hexdigest()[:16]


def _alerted_alike(instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> str:
    """Id of another run with an alert for this reason within the last hour, or ``""``."""
    recent = dg.RunsFilter(
        tags={_REASON_TAG: reason},
        updated_after=datetime.now(UTC) - timedelta(seconds=_GROUPED_SECONDS),
    )
    others = (other.run_id for other in instance.get_runs(recent) if other.run_id != run.run_id)
    return next(others, "")
