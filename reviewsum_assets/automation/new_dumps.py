"""Sensor that launches refresh when dumps or settings change."""

from __future__ import annotations

import hashlib

import dagster as dg
from pydantic import BaseModel, ValidationError

from reviewsum_assets.assets.dagster_home import fail_lost_runs
from reviewsum_assets.assets.partitions import run_in_progress
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import skips_on_error
from reviewsum_assets.automation.alerts import read_run_failure
from reviewsum_assets.automation.jobs import PURPOSE_TAG, refresh
from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.lake_state import plan_differences, planned_settings
from reviewsum_assets.reviews.dumps import find_dumps, listing_fingerprint

INPUT_TAG = ".dagster/reviewsum_input"
_DIGITS = 16


class Seen(BaseModel):
    """The sensor's cursor: fingerprints of the dumps and settings.

    ``last`` was found by the previous tick. ``handled`` was planned, or a run was requested for
    it: the sensor never requests a second run for the same input.
    """

    last: str = ""
    handled: str = ""

    @classmethod
    def of_cursor(cls, cursor: str | None) -> Seen:
        """Read a cursor; an absent or unknown one is empty."""
        try:
            return cls.model_validate_json(cursor or "{}")
        except ValidationError:
            return cls()


@dg.sensor(
    name="new_dumps",
    job=refresh,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Costs money where jobs run on AWS: launches refresh when a dump on the lake is added, "
        "changed or removed, or when the settings of the environment change. Two ticks in a row "
        "must find the same files, so that no partial upload is read. Launches one run per change; "
        "after a failed run it waits for the next change or for a person. Set max_cost_usd first."
    ),
)
@skips_on_error
def new_dumps(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.RunRequest | dg.SkipReason:
    """Compare dumps and settings with the previous tick and with the current plan."""
    dumps = find_dumps(pipeline.lake, pipeline.settings)
    listing = listing_fingerprint(dumps)[:_DIGITS]
    now = f"{listing}/{planned_settings(pipeline.settings)}"
    before = Seen.of_cursor(context.cursor)
    plan = current_plan(pipeline.lake)
    differences = (
        ["there is no plan"]
        if plan is None
        else plan_differences(pipeline.lake, plan, pipeline.settings)
    )
    why = "; ".join(differences)
    if not differences or now == before.handled:
        context.update_cursor(Seen(last=now, handled=now).model_dump_json())
        planned = f"all {len(dumps)} dumps are planned already"
        return dg.SkipReason(
            _last_run(context.instance, now) or (_left_alone(why) if why else planned)
        )
    context.update_cursor(Seen(last=now, handled=before.handled).model_dump_json())
    if now != before.last:
        size = sum(dump.size for dump in dumps)
        return dg.SkipReason(
            f"{len(dumps)} dumps of {size:,} bytes are not planned as they are now ({why}): "
            "waiting until a second tick finds them unchanged"
        )
    fail_lost_runs(context.instance)
    running = run_in_progress(context.instance, "ingest", "summarize", "merge")
    if running:
        return dg.SkipReason(f"waiting for {running}")
    context.update_cursor(Seen(last=now, handled=now).model_dump_json())
    return dg.RunRequest(
        # The same input may return after another plan, and is then planned again.
        run_key=f"{now} after plan {plan.plan_id if plan else 'none'}",
        tags={PURPOSE_TAG: f"new dumps: {why}", INPUT_TAG: _tag(now)},
    )


def _last_run(instance: dg.DagsterInstance, now: str) -> str:
    """Sentence on the run that was requested for an input; empty if it succeeded."""
    for run in instance.get_runs(dg.RunsFilter(tags={INPUT_TAG: _tag(now)}), limit=1):
        if run.status is dg.DagsterRunStatus.FAILURE:
            failure = read_run_failure(instance, run.run_id)
            return (
                f"run {run.run_id} for these dumps failed: {failure.message} To try again: launch "
                "refresh, or change the dumps"
            )
        if run.status is dg.DagsterRunStatus.CANCELED:
            return f"run {run.run_id} for these dumps was canceled. To go on: launch refresh"
        if not run.is_finished:
            return f"waiting for run {run.run_id} of {run.job_name}"
    return ""


def _left_alone(why: str) -> str:
    """Reason for a skip, since two environments must not undo each other's plans."""
    return (
        f"the current plan differs from this environment ({why}), and neither dumps nor settings "
        "have changed since they were last handled here. To plan again from this environment: "
        "launch refresh"
    )


def _tag(now: str) -> str:
    return hashlib.sha256(now.encode()).hexdigest()[:_DIGITS]
