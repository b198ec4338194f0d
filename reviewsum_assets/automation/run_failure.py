"""Reason of a failed run, from its events."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg
from dagster._core.events import JobFailureData, RunFailureReason

from reviewsum_assets.assets.check_results import failed_checks


@dataclass(frozen=True)
class RunFailure:
    """The first failed step with its message, and the metadata that the failure carries.

    ``step``, ``kind`` and ``what_to_do`` are empty where the failure does not say.
    """

    message: str
    step: str = ""
    kind: str = ""
    what_to_do: str = ""
    landed: int | None = None
    missing: int | None = None


def read_run_failure(instance: dg.DagsterInstance, run_id: str) -> RunFailure:
    """Read the failure of a run; of a run whose process died, what Dagster noticed."""
    ends = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    end = ends[-1].event_log_entry.dagster_event if ends else None
    if end is not None and _is_interruption(end):
        return RunFailure("its process was interrupted. Launch it again")
    steps = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    if steps:
        event = steps[0].event_log_entry.dagster_event
        assert event is not None
        return _step_failure(event)
    checks = failed_checks(instance, run_id, is_blocking=True)
    if checks:
        return RunFailure("; ".join(checks.values()), step=next(iter(checks)))
    noticed = ends[-1].event_log_entry.user_message if ends else ""
    return RunFailure((end and end.message) or noticed or "it ended without a reason")


def _is_interruption(end: dg.DagsterEvent) -> bool:
    """Whether a run failed by Ctrl-C or a signal to its process, as Dagster notes it."""
    data = end.event_specific_data
    reason = data.failure_reason if isinstance(data, JobFailureData) else None
    return reason is RunFailureReason.UNEXPECTED_TERMINATION


def _step_failure(event: dg.DagsterEvent) -> RunFailure:
    data, step = event.step_failure_data, event.step_key or ""
    error = data.error
    if error is not None and error.cause is not None:
        error = error.cause
    message = event.message or "" if error is None else _without_class(error.message)
    raised = data.user_failure_data
    if raised is None:
        return RunFailure(message, step)
    metadata = {name: value.value for name, value in raised.metadata.items()}
    landed, missing = metadata.get("landed"), metadata.get("missing")
    return RunFailure(
        message=raised.description or message,
        step=step,
        kind=str(metadata.get("failure", "")),
        what_to_do=str(metadata.get("what_to_do", "")),
        landed=landed if isinstance(landed, int) else None,
        missing=missing if isinstance(missing, int) else None,
    )


def _without_class(message: str) -> str:
    """``reviewsum_assets.errors.ModelError: no weights`` says it with the last part alone."""
    head, separator, rest = message.strip().partition(": ")
    return rest if separator and " " not in head and "." in head else message.strip()
