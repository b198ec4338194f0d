"""Keeps partition states true when the lake changes without Dagster, or Dagster without it."""

from __future__ import annotations

import json

import dagster as dg

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.reconciliation import reconcile
from reviewsum_assets.checkpoints.plan import current_plan

# A tick has a minute, and so many take ten seconds on a disk. The next tick goes on.
CHECKPOINTS_A_TICK = 1_000


@dg.sensor(
    name="reconcile_checkpoints",
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Makes partition states agree with the lake. Valid checkpoints that this instance does "
        "not know, or knows as failed, are materialized with adopted: true. Partitions whose "
        "checkpoint is gone or invalid fail, with the reason. Retired checkpoints leave. It "
        "computes nothing, reads only what has changed, and leaves alone what a run works on."
    ),
)
def reconcile_checkpoints(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SkipReason:
    """List the lake, and tell Dagster what it does not know."""
    plan = current_plan(pipeline.lake)
    if plan is None:
        return dg.SkipReason("there is no plan yet")
    assert context.repository_def is not None  # whoever evaluates sensors gives it
    found = reconcile(
        context.instance,
        pipeline,
        plan,
        context.repository_def.get_job("summarize"),
        seen=json.loads(context.cursor or "{}"),
        limit=CHECKPOINTS_A_TICK,
    )
    context.update_cursor(json.dumps(found.seen))
    told = "; ".join(found.told())
    if not found.did_nothing:
        context.log.warning(told)
    return dg.SkipReason(told)
