"""Ingests when dumps have come or changed, once they have stopped growing."""

from __future__ import annotations

import dagster as dg

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.runs_in_progress import run_in_progress
from reviewsum_assets.automation.attempts import Work, request_run
from reviewsum_assets.automation.jobs import ingest
from reviewsum_assets.automation.lost_runs import fail_lost_runs
from reviewsum_assets.checkpoints.plan import Plan, current_plan
from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews import grouping
from reviewsum_assets.reviews.dumps import find_dumps, listing_fingerprint

DUMPS_TAG = "reviewsum/dumps"
_DIGITS = 16


@dg.sensor(
    name="new_dumps",
    job=ingest,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Launches ingest when a dump on the lake is new, changed or gone, once two looks in a "
        "row have found the same files, so that no half of an upload is read. Nothing is launched "
        "for dumps that are planned already."
    ),
)
def new_dumps(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.RunRequest | dg.SkipReason:
    """Compare the listing with that of the last tick, which is the cursor, and with the plan."""
    try:
        dumps = find_dumps(pipeline.lake, pipeline.settings)
    except DumpError as error:
        return dg.SkipReason(str(error))
    listing = listing_fingerprint(dumps)[:_DIGITS]
    before = context.cursor
    context.update_cursor(listing)
    plan = current_plan(pipeline.lake)
    if _is_planned(pipeline, plan):
        return dg.SkipReason(f"all {len(dumps)} dumps are planned already")
    if listing != before:
        size = sum(dump.size for dump in dumps)
        return dg.SkipReason(
            f"{len(dumps)} dumps of {size:,} bytes are not planned as they are now: waiting until "
            "a second look finds them the same"
        )
    fail_lost_runs(context.instance)
    running = run_in_progress(context.instance, "ingest")
    if running:
        return dg.SkipReason(f"waiting for {running}")
    work = Work(
        job="ingest",
        purpose="new dumps",
        scope=(DUMPS_TAG, listing),
        # The same files may come back later, and are then to be planned anew.
        state=f"{listing} after plan {plan.plan_id if plan else 'none'}",
        by_hand="launch ingest",
    )
    return request_run(context.instance, work, pipeline.settings.max_run_attempts, {})


def _is_planned(pipeline: Pipeline, plan: Plan | None) -> bool:
    """Whether this plan, the current one, was made from the dumps of now."""
    record = grouping.current_grouped_reviews(pipeline.lake)
    return (
        record is not None
        and plan is not None
        and plan.grouped_version == record.version
        and grouping.is_current(pipeline.lake, pipeline.settings)
    )
