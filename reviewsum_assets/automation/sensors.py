"""Sensors that launch refresh, stop abandoned jobs, and make Dagster agree with the lake."""

from __future__ import annotations

import json
import time

import dagster as dg

from reviewsum_assets.assets.dagster_home import fail_lost_runs
from reviewsum_assets.assets.partitions import run_in_progress
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.reconciliation import RecordedFailures, reconcile
from reviewsum_assets.assets.run_failure import skips_on_error
from reviewsum_assets.automation.alerts import read_run_failure
from reviewsum_assets.automation.jobs import PURPOSE_TAG, merge, refresh
from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.compute import RunningJob
from reviewsum_assets.compute.launches import waiting_runs
from reviewsum_assets.compute.local import pid_namespace
from reviewsum_assets.errors import ReviewsumError
from reviewsum_assets.lake_state import plan_differences, planned_settings
from reviewsum_assets.reviews.dumps import find_dumps, listing_fingerprint

INPUT_TAG = ".dagster/reviewsum_input"
_DIGITS = 16


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
    """Compare dumps and settings with the previous tick and with the current plan.

    The cursor holds two fingerprints of them: what the previous tick found, and what was planned or
    a run was requested for, so that no second run is requested for the same input.
    """
    dumps = find_dumps(pipeline.lake, pipeline.settings)
    listing = listing_fingerprint(dumps)[:_DIGITS]
    now = f"{listing}/{planned_settings(pipeline.settings)}"
    last, _, handled = (context.cursor or "").partition(" ")
    plan = current_plan(pipeline.lake)
    differences = (
        ["there is no plan"]
        if plan is None
        else plan_differences(pipeline.lake, plan, pipeline.settings)
    )
    why = "; ".join(differences)
    if not differences or now == handled:
        context.update_cursor(f"{now} {now}")
        planned = f"all {len(dumps)} dumps are planned already"
        return dg.SkipReason(
            _last_run(context.instance, now) or (_left_alone(why) if why else planned)
        )
    context.update_cursor(f"{now} {handled}")
    if now != last:
        size = sum(dump.size for dump in dumps)
        return dg.SkipReason(
            f"{len(dumps)} dumps of {size:,} bytes are not planned as they are now ({why}): "
            "waiting until a second tick finds them unchanged"
        )
    fail_lost_runs(context.instance)
    running = run_in_progress(context.instance, "ingest", "summarize", "merge")
    if running:
        return dg.SkipReason(f"waiting for {running}")
    context.update_cursor(f"{now} {now}")
    return dg.RunRequest(
        # The same input may return after another plan, and is then planned again.
        run_key=f"{now} after plan {plan.plan_id if plan else 'none'}",
        tags={PURPOSE_TAG: f"new dumps: {why}", INPUT_TAG: now},
    )


def _last_run(instance: dg.DagsterInstance, now: str) -> str:
    """Sentence on the run that was requested for an input; empty if it succeeded."""
    for run in instance.get_runs(dg.RunsFilter(tags={INPUT_TAG: now}), limit=1):
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
