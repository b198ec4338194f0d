"""Sensors that stop abandoned jobs and make Dagster's state agree with the lake."""

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

# Time for a retried or re-executed run to attach to the job of the previous one.
GRACE_SECONDS = 600.0


@dg.sensor(
    name="stop_abandoned_jobs",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Stops every Processing job that no run waits for, ten minutes after the last run ended: a "
        "retried or re-executed run attaches to the job in this time. Finished checkpoints are "
        "kept. Jobs of runs that this Dagster instance does not know are reported and left alone."
    ),
)
@skips_on_error
def stop_abandoned_jobs(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SkipReason:
    """Check the runs of every live job."""
    fail_lost_runs(context.instance)
    # Measured by the monotonic clock of this host: clocks of other hosts may differ, and any
    # other clock of this host may be set.
    clock = pid_namespace()
    seen = json.loads(context.cursor or "{}")
    seen_alone = seen["alone"] if seen.get("clock") == clock else {}
    alone: dict[str, float] = {}
    sentences = []
    for job in pipeline.compute.live_jobs():
        waits = _waiting(context.instance, pipeline, job)
        if waits is None:
            since = alone[job.spec.name] = seen_alone.get(job.spec.name, time.monotonic())
            sentences.append(_stop_in_time(context, job, time.monotonic() - since))
        else:
            sentences.append(waits)
    context.update_cursor(json.dumps({"clock": clock, "alone": alone}))
    return dg.SkipReason("; ".join(sentences) or "no job is running")


def _waiting(instance: dg.DagsterInstance, pipeline: Pipeline, job: RunningJob) -> str | None:
    """Sentence on the runs that wait, or may wait, for a job; None if there is none."""
    runs = waiting_runs(pipeline.lake, job.spec.name)
    known = [run for run_id in runs if (run := instance.get_run_by_id(run_id)) is not None]
    if len(known) < len(runs) or not known:
        return f"job {job.spec.name} belongs to a run that is not known here: left alone"
    if not all(run.is_finished for run in known):
        return f"job {job.spec.name} has a run that waits for it"
    return None


def _stop_in_time(context: dg.SensorEvaluationContext, job: RunningJob, alone: float) -> str:
    """Stop a job that has been without a run for long enough; returns a sentence on it."""
    name = job.spec.name
    if alone < GRACE_SECONDS:
        return f"job {name} has been without its runs for {alone:.0f} s: stopping it soon"
    try:
        job.request_stop()
    except ReviewsumError as error:
        context.log.exception(f"job {name} has lost its runs and cannot be stopped")
        return f"job {name} cannot be stopped: {error}"
    sentence = f"stopped job {name}: for {alone:.0f} s no run has waited for it"
    context.log.warning(sentence)
    return sentence


# A tick that reads checkpoints takes two more seconds; the next tick continues.
_READING_SECONDS = 2.5


@dg.sensor(
    name="reconcile_checkpoints",
    jobs=[merge],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Makes partition states agree with the lake. Valid checkpoints that this instance does "
        "not show, or shows as failed, are materialized with adopted: true. Partitions whose "
        "checkpoint is missing or invalid at two ticks in a row fail, with the reason. Partitions "
        "of retired checkpoints are removed. A missing merged table fails too, and is merged again "
        "if every checkpoint is there. The sensor computes no summary, reads only changed files, "
        "and leaves partitions of runs in progress alone."
    ),
)
@skips_on_error
def reconcile_checkpoints(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SkipReason | dg.RunRequest:
    """Reconcile for a short time."""
    plan = current_plan(pipeline.lake)
    if plan is None:
        return dg.SkipReason("there is no plan yet")
    repository, location = context.repository_def, context.code_location_origin
    assert repository is not None  # Dagster sets it for every tick
    failures = RecordedFailures(repository, *([location] if location else []))
    found = reconcile(context.instance, pipeline, plan, failures, seconds=_READING_SECONDS)
    summary = "; ".join(found.sentences())
    if not found.did_nothing:
        context.log.warning(summary)
    if found.merged.lost and found.is_complete:
        return dg.RunRequest(
            run_key=f"after {found.merged.failed_run}",
            job_name="merge",
            tags={PURPOSE_TAG: "merged table lost"},
        )
    return dg.SkipReason(summary)
