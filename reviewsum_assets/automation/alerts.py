"""Alerts of failed runs: always in the log, and by Slack and e-mail where those are set up."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import dagster as dg

from reviewsum_assets.automation.alert_delivery import deliver
from reviewsum_assets.automation.jobs import PURPOSE_TAG
from reviewsum_assets.automation.run_failure import read_run_failure
from reviewsum_assets.automation_settings import AutomationSettings
from reviewsum_assets.dagster_home import last_run_of_this_process, tells_of_its_failure
from reviewsum_assets.errors import RunInterrupted
from reviewsum_assets.settings import load_automation_settings

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
    """Log the alert first, so that it can be read there if the delivery fails."""
    settings = load_automation_settings()
    run = context.dagster_run
    text = failure_text(context.instance, run, settings.webserver_url)
    context.log.error(text)
    if tells_of_its_failure(run):
        return
    reason = _reason(text)
    alike = _alerted_alike(context.instance, run, reason)
    context.instance.add_run_tags(run.run_id, {_REASON_TAG: reason})
    if alike:
        context.log.info(f"not sent: run {alike} failed for the same reason within the last hour")
    else:
        deliver(text, settings, context.log)


@contextmanager
def telling_of_failure(
    instance: dg.DagsterInstance, settings: AutomationSettings
) -> Iterator[None]:
    """Send an alert if ``reviewsum run`` fails in this context; no daemon is needed for it."""
    try:
        yield
    except RunInterrupted:  # the person who interrupted it knows
        raise
    except Exception as error:  # any error is reported and raised again
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
    purpose = run.tags.get(PURPOSE_TAG)
    landed = "" if failure.landed is None else f", {failure.landed} partitions landed"
    missing = "" if failure.missing is None else f", {failure.missing} are missing"
    reason = failure.kind or _shortened(failure.message)
    where = f"{webserver_url.rstrip('/')}/runs/{run.run_id}" if webserver_url else run.run_id
    lines = [
        f"{failure.step or run.job_name} failed: {reason}{landed}{missing}",
        f"Why: {failure.message}",
        f"What to do: {failure.what_to_do}" if failure.what_to_do else "",
        f"Launched for: {purpose}" if purpose else "",
        f"Run: {where} of {run.job_name}",
    ]
    return "\n".join(line for line in lines if line)


def _shortened(message: str) -> str:
    """The beginning of a message, for a subject."""
    return textwrap.shorten(message, _SUBJECT_CHARS, placeholder=" ...")


def _reason(text: str) -> str:
    """Digest of asset and reason; numbers and names of partitions differ from run to run."""
    subject, why = text.splitlines()[:2]
    return hashlib.sha256(re.sub(r"\d+", "", subject + why).encode()).hexdigest()[:16]


def _alerted_alike(instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> str:
    """Id of another run that an alert was sent of, for this reason, within the last hour."""
    recent = dg.RunsFilter(
        tags={_REASON_TAG: reason},
        updated_after=datetime.now(timezone.utc) - timedelta(seconds=_GROUPED_SECONDS),
    )
    others = (other.run_id for other in instance.get_runs(recent) if other.run_id != run.run_id)
    return next(others, "")
