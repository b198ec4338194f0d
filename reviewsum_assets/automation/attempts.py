"""Requests a run, unless enough runs have failed at the same work: no sensor launches for ever.

Attempts are counted from the runs that the instance knows, by their tags: nothing else has to be
remembered, and a run that is re-executed by hand counts too. Whether people are to go on is told by
the last run that did the work, whoever started it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

import dagster as dg

from reviewsum_assets.assets.runs_in_progress import does_work_of
from reviewsum_assets.automation.jobs import PURPOSE_TAG
from reviewsum_assets.automation.run_failure import INTERRUPTED, RunFailure, read_run_failure
from reviewsum_assets.compute.failures import FailureKind
from reviewsum_assets.dagster_home import is_of_command_line

# Doubled for each further attempt.
FIRST_PAUSE_SECONDS = 300.0

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
# The newest ones: among so many, one did the work, or it is long ago.
_RUNS_LOOKED_AT = 200
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
    since: float = math.inf  # POSIX time: whatever ended later was for this scope, tagged or not
    follows: tuple[str, ...] = ()  # jobs of which a newer run makes an older end of ``job`` void


def request_run(
    instance: dg.DagsterInstance, work: Work, max_attempts: int, tags: Mapping[str, str]
) -> dg.RunRequest | dg.SkipReason:
    """The next attempt, or why there is none now. The same state twice gives the same run key."""
    scope, value = work.scope
    records = instance.get_run_records(dg.RunsFilter(tags={scope: value}))
    ended = [record for record in records if record.dagster_run.is_finished]
    alike = [record for record in ended if _state(record) == work.state]
    in_a_row = list(takewhile(lambda record: _state(record) == work.state, ended))
    obstacle = _left_to_people(instance, work) or _no_progress(
        instance, work, in_a_row, max_attempts
    )
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


def _left_to_people(instance: dg.DagsterInstance, work: Work) -> str:
    """Why people have to go on, if the last run that did this work, whoever's, ended so."""
    last = _last_end(instance, work)
    if last is None or last.dagster_run.is_success:
        return ""
    told = f"run {_id(last)} of {work.job}"
    if last.dagster_run.status is dg.DagsterRunStatus.CANCELED:
        return f"{told} was cancelled: to go on, {_by_hand(work)}"
    why, kind, _ = _ending(instance, last)
    # A launched run may be interrupted by the end of its machine; of the command line, by Ctrl-C.
    by_person = kind == INTERRUPTED and is_of_command_line(last.dagster_run)
    if kind in _LEFT_TO_PEOPLE or by_person:
        return f"{told} ended: {why}. To go on, {_by_hand(work)}"
    return ""


def _last_end(instance: dg.DagsterInstance, work: Work) -> dg.RunRecord | None:
    """The last run of this work's job to end in its scope; None if one that it follows is newer."""
    finished = dg.RunsFilter(statuses=_FINISHED)
    records = instance.get_run_records(finished, limit=_RUNS_LOOKED_AT)
    doing = (work.job, *work.follows)
    last = max(
        (
            record
            for record in records
            if any(does_work_of(record.dagster_run, job) for job in doing) and _ran(record)
        ),
        key=_end_time,
        default=None,
    )
    if last is None or not does_work_of(last.dagster_run, work.job):
        return None
    scope, value = work.scope
    is_for_it = last.dagster_run.tags.get(scope) == value or _end_time(last) >= work.since
    return last if is_for_it else None


def _no_progress(
    instance: dg.DagsterInstance, work: Work, in_a_row: list[dg.RunRecord], max_attempts: int
) -> str:
    """Why not to start a run now, after those that got no further; newest first."""
    if not in_a_row:
        return ""
    last = in_a_row[0]
    why, _, advice = _ending(instance, last)
    if len(in_a_row) >= max_attempts:
        return (
            f"{work.job} got no further in {len(in_a_row)} runs (max_run_attempts) and is not "
            f"started again by itself. The last, {_id(last)}: {why}. What to do: {advice}; then "
            f"{_by_hand(work)}"
        )
    pause = FIRST_PAUSE_SECONDS * 2 ** (len(in_a_row) - 1)
    left = _end_time(last) + pause - time.time()
    # More than the pause is left where the run's host has a clock that is ahead of this one's.
    if 0 < left <= pause:
        return (
            f"attempt {len(in_a_row) + 1} of {max_attempts} of {work.job} starts in {left:.0f} s: "
            f"run {_id(last)} got no further: {why}. What to do meanwhile: {advice}"
        )
    return ""


def _by_hand(work: Work) -> str:
    """What a person may do, whoever's run it was: one of the command line has no re-execution."""
    return f"{work.by_hand}, or call `reviewsum run`"


def _ending(instance: dg.DagsterInstance, record: dg.RunRecord) -> tuple[str, str, str]:
    """Why a run did not do its work, of what kind that is, and what to do."""
    if record.dagster_run.is_success:
        failure = RunFailure("it succeeded, and the work is still to be done")
    else:
        failure = read_run_failure(instance, _id(record))
    return failure.message, failure.kind, failure.what_to_do or "mend what the message names"


def _ran(record: dg.RunRecord) -> bool:
    """Whether a run did something, or somebody cancelled it before it could."""
    is_failure = record.dagster_run.status is dg.DagsterRunStatus.FAILURE
    return not is_failure or record.start_time is not None


def _end_time(record: dg.RunRecord) -> float:
    return record.end_time or record.create_timestamp.timestamp()


def _state(record: dg.RunRecord) -> str | None:
    return record.dagster_run.tags.get(_STATE_TAG)


def _id(record: dg.RunRecord) -> str:
    return record.dagster_run.run_id
