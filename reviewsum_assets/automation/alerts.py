"""Tells people of failed runs: in the log always, by Slack and e-mail where that is set up."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from reviewsum_assets.automation.alert_delivery import deliver
from reviewsum_assets.automation.jobs import PURPOSE_TAG
from reviewsum_assets.automation.run_failure import read_run_failure
from reviewsum_assets.automation_settings import AutomationSettings
from reviewsum_assets.dagster_home import last_run_of_this_process, tells_of_its_failure
from reviewsum_assets.errors import RunInterrupted
from reviewsum_assets.settings import load_automation_settings

_log = logging.getLogger("reviewsum.alerts")


@dg.run_failure_sensor(
    name="alert_on_failure",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Says what failed, why, what landed and what to do: in its log, and to Slack and by "
        "e-mail where the settings slack_channel and alert_email_to name somebody. A run "
        "of the command line sends that itself."
    ),
)
def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
    """Log the alert first: whatever is wrong with its delivery, it can be read there."""
    settings = load_automation_settings()
    text = failure_text(context.instance, context.dagster_run, settings.webserver_url)
    context.log.error(text)
    if not tells_of_its_failure(context.dagster_run):
        deliver(text, settings, context.log)


@contextmanager
def telling_of_failure(
    instance: dg.DagsterInstance, settings: AutomationSettings
) -> Iterator[None]:
    """Tell people if ``reviewsum run`` fails in this context: nobody need run a daemon for that."""
    try:
        yield
    except RunInterrupted:  # whoever did that knows
        raise
    except Exception as error:  # whatever it is, it is told and raised again
        run = last_run_of_this_process(instance)
        if run is not None and run.status is dg.DagsterRunStatus.FAILURE:
            text = failure_text(instance, run, settings.webserver_url)
        else:
            text = f"reviewsum run failed\nWhy: {error}"
        deliver(f"{text}\nHost: {socket.gethostname()}", settings, _log)
        raise


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
