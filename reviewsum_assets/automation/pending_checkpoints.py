"""Computes what the current plan lacks, then merges: one run at a time, and only if needed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from reviewsum_assets import places
from reviewsum_assets.assets.checkpoint_plan import align_partitions, enclosing_range_tags
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.runs_in_progress import run_in_progress
from reviewsum_assets.automation.attempts import Work, request_run
from reviewsum_assets.automation.jobs import merge, summarize
from reviewsum_assets.automation.lost_runs import fail_lost_runs
from reviewsum_assets.checkpoints.judging import Judgement, judge
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint, current_plan
from reviewsum_assets.checkpoints.status import is_merge_needed
from reviewsum_assets.compute.launches import waiting_runs

PLAN_TAG = "reviewsum/plan"

# A tick that reads checkpoints takes about so long; what is left is read at the next ones.
_READING_SECONDS = 3.0
_BLOCKS = TypeAdapter(dict[str, list[int]])


@dg.sensor(
    name="pending_checkpoints",
    jobs=[summarize, merge],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Launches one run of summarize over all checkpoints of the current plan that are not "
        "valid, and merge once they all are. Waits for runs and Processing jobs that do so "
        "already. After a run that got no further it waits, longer each time, and leaves it to "
        "people after max_run_attempts. After any run, whoever's, that was cancelled, whose job "
        "was stopped or that reached its budget it waits until somebody has gone on. "
        "Runs cost what they cost: set max_cost_usd first."
    ),
)
def pending_checkpoints(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.RunRequest | dg.SkipReason:
    """Look at runs, plan, checkpoints and merged table, in this order: cheap things first."""
    fail_lost_runs(context.instance)
    running = run_in_progress(context.instance, "ingest", "summarize", "merge")
    if running:
        return dg.SkipReason(f"waiting for {running}")
    plan = current_plan(pipeline.lake)
    if plan is None:
        return dg.SkipReason("there is no plan yet: launch ingest, or switch new_dumps on")
    found = judge(pipeline.lake, plan, _known(context.cursor), _READING_SECONDS)
    context.update_cursor(json.dumps(dict(found.blocks), separators=(",", ":")))
    if found.unread:
        return dg.SkipReason(
            f"looking at the checkpoints of plan {plan.plan_id}: {found.unread:,} of "
            f"{len(plan.checkpoints):,} are left for the next ticks"
        )
    if found.pending:
        return _summarize(context, pipeline, plan, found.pending)
    return _merge(context, pipeline, plan, found)


def _summarize(
    context: dg.SensorEvaluationContext,
    pipeline: Pipeline,
    plan: Plan,
    pending: Sequence[PlannedCheckpoint],
) -> dg.RunRequest | dg.SkipReason:
    numbers = {planned.number for planned in pending}
    for job in pipeline.compute.live_jobs():
        computed = numbers.intersection(c.number for c in job.spec.checkpoints)
        if computed and _is_foreign(context.instance, pipeline, job.spec.name):
            return dg.SkipReason(
                f"waiting for job {job.spec.name}, which computes {len(computed)} of "
                f"{len(pending)} pending checkpoints and was not started from here"
            )
    align_partitions(context.instance, plan)
    work = Work(
        job="summarize",
        purpose="pending checkpoints",
        scope=(PLAN_TAG, plan.plan_id),
        state=_state(pending),
        by_hand="materialize the missing partitions of chunk_summaries",
        since=_planned_at(pipeline, plan),
    )
    tags = enclosing_range_tags(context.instance, pending)
    return request_run(context.instance, work, pipeline.settings.max_run_attempts, tags)


def _merge(
    context: dg.SensorEvaluationContext, pipeline: Pipeline, plan: Plan, found: Judgement
) -> dg.RunRequest | dg.SkipReason:
    if not is_merge_needed(pipeline.lake, plan, found.content):
        return dg.SkipReason(
            f"all {len(plan.checkpoints):,} checkpoints of plan {plan.plan_id} are valid and merged"
        )
    work = Work(
        job="merge",
        purpose="merge of a finished plan",
        scope=(PLAN_TAG, plan.plan_id),
        # A checkpoint that is computed again later makes another table.
        state=f"merge of {found.content}",
        by_hand="launch merge",
        since=_planned_at(pipeline, plan),
        # Whoever computes more after cancelling a merge has something new to be merged.
        follows=("summarize",),
    )
    return request_run(context.instance, work, pipeline.settings.max_run_attempts, {})


def _planned_at(pipeline: Pipeline, plan: Plan) -> float:
    """When the plan became current: runs that ended before worked for another one."""
    document = pipeline.lake.head(places.plan_document(plan.sequence))
    return math.inf if document is None else document.last_modified.timestamp()


def _is_foreign(instance: dg.DagsterInstance, pipeline: Pipeline, job: str) -> bool:
    """Whether a live job belongs to a run that this instance does not know.

    A job whose run has ended here without it is not waited for: a new run attaches to it.
    """
    runs = waiting_runs(pipeline.lake, job)
    return not runs or any(not instance.has_run(run_id) for run_id in runs)


def _state(pending: Sequence[PlannedCheckpoint]) -> str:
    """Names a set of pending checkpoints: a run that lands any leaves another set."""
    numbers = json.dumps([planned.number for planned in pending])
    return f"{len(pending)} pending, {hashlib.sha256(numbers.encode()).hexdigest()[:8]}"


def _known(cursor: str | None) -> dict[str, list[int]]:
    try:
        return _BLOCKS.validate_json(cursor or "{}")
    except ValidationError:  # written by another version
        return {}
