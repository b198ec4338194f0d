"""Stops Processing jobs that no run waits for any more, so that nobody pays for a forgotten one."""

from __future__ import annotations

import json
import time

import dagster as dg

from reviewsum_assets.assets.dagster_home import fail_lost_runs
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.reconciliation import RecordedFailures, reconcile
from reviewsum_assets.assets.run_failure import skips_on_error
from reviewsum_assets.automation.jobs import PURPOSE_TAG, merge
from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.compute import RunningJob
from reviewsum_assets.compute.launches import waiting_runs
from reviewsum_assets.compute.local import pid_namespace
from reviewsum_assets.errors import ReviewsumError

# Time for a run that is retried or re-executed to attach to the job of the one before it.
GRACE_SECONDS = 600.0


@dg.sensor(
    name="stop_abandoned_jobs",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Stops every Processing job whose run has ended without it, ten minutes after it has seen "
        "that: a run that is retried or re-executed meanwhile attaches to the job. What the job "
        "has finished is kept. Jobs of runs that this Dagster instance does not know are reported "
        "and left alone."
    ),
)
@skips_on_error
def stop_abandoned_jobs(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SkipReason:
    """Look at every live job's runs."""
    fail_lost_runs(context.instance)
    # By the monotonic clock of this host: that of the host on which a run ended, or on which the
    # daemon ran before, may show another time, and it may have been set since.
    clock = pid_namespace()
    seen = json.loads(context.cursor or "{}")
    seen_alone = seen["alone"] if seen.get("clock") == clock else {}
    alone: dict[str, float] = {}
    told = []
    for job in pipeline.compute.live_jobs():
        waits = _waiting(context.instance, pipeline, job)
        if waits is None:
            since = alone[job.spec.name] = seen_alone.get(job.spec.name, time.monotonic())
            told.append(_stop_in_time(context, job, time.monotonic() - since))
        else:
            told.append(waits)
    context.update_cursor(json.dumps({"clock": clock, "alone": alone}))
    return dg.SkipReason("; ".join(told) or "no job is running")


def _waiting(instance: dg.DagsterInstance, pipeline: Pipeline, job: RunningJob) -> str | None:
    """Who waits, or may wait, for a job; None if nobody does any more."""
    runs = waiting_runs(pipeline.lake, job.spec.name)
    known = [run for run_id in runs if (run := instance.get_run_by_id(run_id)) is not None]
    if len(known) < len(runs) or not known:
        return f"job {job.spec.name} belongs to a run that is not known here: left alone"
    if not all(run.is_finished for run in known):
        return f"job {job.spec.name} has a run that waits for it"
    return None


def _stop_in_time(context: dg.SensorEvaluationContext, job: RunningJob, alone: float) -> str:
    """Stop a job that has been without a run for long enough; returns what was done."""
    name = job.spec.name
    if alone < GRACE_SECONDS:
        return f"job {name} has been without its runs for {alone:.0f} s: stopping it soon"
    try:
        job.request_stop()
    except ReviewsumError as error:
        context.log.exception(f"job {name} has lost its runs and cannot be stopped")
        return f"job {name} cannot be stopped: {error}"
    told = f"stopped job {name}: for {alone:.0f} s no run has waited for it"
    context.log.warning(told)
    return told


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
        context.instance, pipeline, plan, _failures(context), seconds=_READING_SECONDS
    )
    told = "; ".join(found.sentences())
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
