"""Keeps what Dagster shows true when the lake changes without it, or it without the lake."""

from __future__ import annotations

import dagster as dg

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.reconciliation import reconcile
from reviewsum_assets.assets.reconciliation_memory import Seen
from reviewsum_assets.assets.recorded_failures import RecordedFailures
from reviewsum_assets.assets.run_failure import skips_on_error
from reviewsum_assets.automation.jobs import PURPOSE_TAG, merge
from reviewsum_assets.checkpoints.plan import current_plan

# A tick that has to look at checkpoints takes some two seconds more. The next tick goes on.
_READING_SECONDS = 2.5


@dg.sensor(
    name="reconcile_checkpoints",
    jobs=[merge],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Makes partition states agree with the lake. Valid checkpoints that this instance does "
        "not know, or knows as failed, are materialized with adopted: true. Partitions whose "
        "checkpoint is gone or invalid at two ticks in a row fail, with the reason. Retired "
        "checkpoints leave. A merged table that is gone fails too, and is merged again if every "
        "checkpoint is there. It computes no summary, reads only what has changed, and leaves "
        "alone what a run works on."
    ),
)
@skips_on_error
def reconcile_checkpoints(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SkipReason | dg.RunRequest:
    """List the lake, and tell Dagster what it does not know."""
    plan = current_plan(pipeline.lake)
    if plan is None:
        return dg.SkipReason("there is no plan yet")
    found = reconcile(
        context.instance,
        pipeline,
        plan,
        _failures(context),
        seen=Seen.of_cursor(context.cursor),
        seconds=_READING_SECONDS,
    )
    context.update_cursor(found.seen.model_dump_json())
    told = "; ".join(found.told())
    if not found.did_nothing:
        context.log.warning(told)
    if found.merged.lost and found.is_complete:
        return dg.RunRequest(
            run_key=f"after {found.merged.failed_run}",
            job_name="merge",
            tags={PURPOSE_TAG: "merged table lost"},
        )
    return dg.SkipReason(told)


def _failures(context: dg.SensorEvaluationContext) -> RecordedFailures:
    repository, location = context.repository_def, context.code_location_origin
    assert repository is not None  # whoever evaluates sensors gives it
    return (
        RecordedFailures(repository) if location is None else RecordedFailures(repository, location)
    )
