"""Records runs that failed and executed nothing: only a run can show an asset as failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

# As workspace.yaml has it.
_LOCATION = InProcessCodeLocationOrigin(
    LoadableTargetOrigin(module_name="reviewsum_assets.definitions"),
    location_name="reviewsum_assets",
)


@dataclass(frozen=True)
class RecordedFailures:
    """Failed runs of the jobs of a repository, which webserver and daemon know as a location.

    Whoever sees such a run can re-execute it, and is alerted of it, like any other.
    """

    repository: dg.RepositoryDefinition
    location: CodeLocationOrigin = _LOCATION

    def record(
        self, instance: dg.DagsterInstance, job: str, why: str, tags: Mapping[str, str]
    ) -> dg.DagsterRun:
        """Record one, over the partitions that ``tags`` name."""
        origin = RemoteRepositoryOrigin(self.location, self.repository.name)
        run = instance.create_run_for_job(
            self.repository.get_job(job),
            tags={
                **tags,
                # Whoever retries runs by itself must not spend money that nobody asked for.
                "dagster/max_retries": "0",
            },
            status=dg.DagsterRunStatus.FAILURE,
            remote_job_origin=RemoteJobOrigin(origin, job),
        )
        instance.report_run_failed(run, f"nothing was executed; {why}")
        return run
