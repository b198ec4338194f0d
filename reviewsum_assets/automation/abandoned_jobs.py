"""Stops Processing jobs that no run waits for any more, so that nobody pays for a forgotten one."""

from __future__ import annotations

import time

import dagster as dg

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.automation.lost_runs import fail_lost_runs
from reviewsum_assets.compute import RunningJob
from reviewsum_assets.compute.launches import waiting_runs
from reviewsum_assets.errors import ReviewsumError

# Time for a run that is retried or re-executed to attach to the job of the one before it.
GRACE_SECONDS = 600.0


@dg.sensor(
    name="stop_abandoned_jobs",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Stops every Processing job whose run has ended without it, ten minutes after that: a "
        "run that is retried or re-executed meanwhile attaches to the job. What the job has "
        "finished is kept. Jobs of runs that this Dagster instance does not know are reported and "
        "left alone."
    ),
)
def stop_abandoned_jobs(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SkipReason:
    """Look at every live job's runs."""
    fail_lost_runs(context.instance)
    told = [_look_at(context, pipeline, job) for job in pipeline.compute.live_jobs()]
    return dg.SkipReason("; ".join(told) or "no job is running")


def _look_at(context: dg.SensorEvaluationContext, pipeline: Pipeline, job: RunningJob) -> str:
    """Stop one job if it is abandoned; returns what was found and done."""
    name = job.spec.name
    runs = waiting_runs(pipeline.lake, name)
    records = [context.instance.get_run_record_by_id(run_id) for run_id in runs]
    known = [record for record in records if record is not None]
    if len(known) < len(records) or not known:
        return f"job {name} belongs to a run that is not known here: left alone"
    ends = [record.end_time for record in known if record.dagster_run.is_finished]
    ended = [end for end in ends if end is not None]
    if len(ended) < len(known):
        return f"job {name} has a run that waits for it"
    gone = time.time() - max(ended)
    if gone < GRACE_SECONDS:
        return f"the last run of job {name} ended {gone:.0f} s ago: stopping it soon"
    try:
        job.request_stop()
    except ReviewsumError as error:
        context.log.exception(f"job {name} has lost its runs and cannot be stopped")
        return f"job {name} cannot be stopped: {error}"
    told = f"stopped job {name}: its last run ended {gone:.0f} s ago without it"
    context.log.warning(told)
    return told
