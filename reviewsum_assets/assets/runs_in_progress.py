"""Finds runs that are queued or running, whether a job was launched or an asset materialized."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES

_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# The last asset of each job: whoever materializes it on its page does what the job would.
_LAST_ASSETS: Mapping[str, dg.AssetKey] = {
    "ingest": dg.AssetKey("checkpoint_plan"),
    "summarize": CHUNK_SUMMARIES,
    "merge": dg.AssetKey("merged_summaries"),
}
# The job that does the work of all the others.
REFRESH = "refresh"


def run_in_progress(instance: dg.DagsterInstance, *jobs: str) -> str:
    """``run ID of JOB``, for a run that does the work of one of these jobs; empty if none does."""
    for run in instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS)):
        for job in jobs:
            if does_work_of(run, job):
                return f"run {run.run_id} of {job}"
    return ""


def does_work_of(run: dg.DagsterRun, job: str) -> bool:
    """Whether a run is one of this job, or materializes on its page what the job is there for."""
    if run.job_name in (job, REFRESH):
        return True
    return job in _LAST_ASSETS and _LAST_ASSETS[job] in (run.asset_selection or ())
