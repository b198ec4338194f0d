"""Requests a run, unless enough runs have failed at the same work: no sensor launches for ever.

Attempts are counted from the runs that the instance knows, by their tags: nothing else has to be
remembered, and a run that is re-executed by hand counts too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

import dagster as dg

from reviewsum_assets.automation.jobs import PURPOSE_TAG
from reviewsum_assets.automation.run_failure import RunFailure, read_run_failure
from reviewsum_assets.compute.failures import FailureKind

# Doubled for each further attempt.
FIRST_PAUSE_SECONDS = 300.0

_STATE_TAG = "reviewsum/state"
_ATTEMPT_TAG = "reviewsum/attempt"
# Whoever set a budget or stopped a job did not want the next one to start at once.
_LEFT_TO_PEOPLE = frozenset({FailureKind.BUDGET.value, FailureKind.STOPPED.value})


@dataclass(frozen=True)
class Work:
    """What a run is wanted for.

    ``scope`` is the tag that all runs for one plan, or one listing of dumps, share; ``state`` says
    from where a run would start: runs that started from another state got on, and do not count.
    """

    job: str
    purpose: str
    scope: tuple[str, str]
    state: str
    by_hand: str  # how a person does it


def request_run(
    instance: dg.DagsterInstance, work: Work, max_attempts: int, tags: Mapping[str, str]
) -> dg.RunRequest | dg.SkipReason:
    """The next attempt, or why there is none now. The same state twice gives the same run key."""
    scope, value = work.scope
    records = instance.get_run_records(dg.RunsFilter(tags={scope: value}))
    ended = [record for record in records if record.dagster_run.is_finished]
    alike = [record for record in ended if _state(record) == work.state]
    in_a_row = list(takewhile(lambda record: _state(record) == work.state, ended))
    obstacle = _obstacle(instance, work, ended, in_a_row, max_attempts)
    if obstacle:
        return dg.SkipReason(obstacle)
    return dg.RunRequest(
        # Not their number: runs can be deleted, and a key that comes back launches nothing.
        run_key=f"{value}/{work.state}/after {_id(alike[0]) if alike else 'none'}",
        job_name=work.job,
        tags={
            PURPOSE_TAG: work.purpose,
            scope: value,
            _STATE_TAG: work.state,
            _ATTEMPT_TAG: f"{len(in_a_row) + 1} of {max_attempts}",
            **tags,
        },
    )


def _obstacle(
    instance: dg.DagsterInstance,
    work: Work,
    ended: list[dg.RunRecord],
    in_a_row: list[dg.RunRecord],
    max_attempts: int,
) -> str:
    """Why not to start a run now; empty if nothing is in the way. Newest runs come first."""
    if not ended or ended[0].dagster_run.job_name != work.job:
        return ""
    last = ended[0]
    by_hand = f"re-execute that run, or {work.by_hand}"
    if last.dagster_run.status is dg.DagsterRunStatus.CANCELED:
        return f"run {_id(last)} of {work.job} was cancelled: to go on, {by_hand}"
    why, kind, advice = _ending(instance, last)
    if kind in _LEFT_TO_PEOPLE:
        return f"run {_id(last)} of {work.job} ended: {why}. To go on, {by_hand}"
    if len(in_a_row) >= max_attempts:
        return (
            f"{work.job} got no further in {len(in_a_row)} runs (max_run_attempts) and is not "
            f"started again by itself. The last, {_id(last)}: {why}. What to do: {advice}; then "
            f"{by_hand}"
        )
    pause = FIRST_PAUSE_SECONDS * 2 ** (len(in_a_row) - 1) if in_a_row else 0.0
    left = (last.end_time or 0.0) + pause - time.time()
    # More than the pause is left where the run's host has a clock that is ahead of this one's.
    if 0 < left <= pause:
        return (
            f"attempt {len(in_a_row) + 1} of {max_attempts} of {work.job} starts in {left:.0f} s: "
            f"run {_id(last)} got no further: {why}. What to do meanwhile: {advice}"
        )
    return ""


def _ending(instance: dg.DagsterInstance, record: dg.RunRecord) -> tuple[str, str, str]:
    """Why a run did not do its work, of what kind that is, and what to do."""
    if record.dagster_run.is_success:
        failure = RunFailure("it succeeded, and the work is still to be done")
    else:
        failure = read_run_failure(instance, _id(record))
    return failure.message, failure.kind, failure.what_to_do or "mend what the message names"


def _state(record: dg.RunRecord) -> str | None:
    return record.dagster_run.tags.get(_STATE_TAG)


def _id(record: dg.RunRecord) -> str:
    return record.dagster_run.run_id
