"""Looks at sensors as the daemon does: cursor kept, a run key launched once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from reviewsum_assets.automation.alerts import alert_on_failure
from reviewsum_assets.definitions import defs
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import SmallPipeline, texts, write_dump

_RUN_KEY = "dagster/run_key"


@dataclass
class Sensor:
    """One sensor over one pipeline."""

    definition: dg.SensorDefinition
    small: SmallPipeline
    cursor: str | None = None

    def look(self) -> dg.RunRequest | str:
        """One tick: the run it requests, or why it requests none."""
        context = dg.build_sensor_context(
            instance=self.small.instance,
            cursor=self.cursor,
            resources={"pipeline": self.small.pipeline},
        )
        result = self.definition(context)
        self.cursor = context.cursor
        if isinstance(result, dg.SkipReason):
            return str(result.skip_message)
        assert isinstance(result, dg.RunRequest)
        return result

    def skipped(self) -> str:
        """One tick that must request nothing; why."""
        result = self.look()
        assert isinstance(result, str), result
        return result

    def requested(self) -> dg.RunRequest:
        """One tick that must request a run."""
        result = self.look()
        assert isinstance(result, dg.RunRequest), result
        return result

    def launch(self, request: dg.RunRequest, job: str = "") -> Any:
        """Execute what was requested, or ``job``, unless this run key was launched before."""
        assert request.run_key is not None
        same_key = dg.RunsFilter(tags={_RUN_KEY: request.run_key})
        if self.small.instance.get_runs(same_key):
            return None
        name = job or request.job_name or self.definition.job_name or ""
        tags = {**request.tags, _RUN_KEY: request.run_key}
        return self.small.execute(name, tags)


def alert(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Evaluate ``alert_on_failure`` as the daemon does after the failure of a run."""
    failures = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    event = failures.records[-1].event_log_entry.dagster_event
    assert event is not None
    context = dg.build_run_status_sensor_context(
        sensor_name="alert_on_failure",
        dagster_event=event,
        dagster_instance=instance,
        dagster_run=run,
    )
    alert_on_failure(context.for_run_failure())


def put_dump(lake: Lake, products: int, name: str = "a.csv") -> None:
    """A dump of so many products, under the lake's ``review_dumps/``."""
    assert lake.directory is not None
    write_dump(lake.directory / places.REVIEW_DUMPS / name, texts(products))


def put_run(
    small: SmallPipeline,
    job: str,
    status: dg.DagsterRunStatus,
    tags: Mapping[str, str] | None = None,
) -> str:
    """A run in this state, as another process would have it; its id."""
    run = small.instance.create_run_for_job(
        defs.resolve_job_def(job),
        status=status,
        tags=dict(tags or {}),
        remote_job_origin=_origin(job),
    )
    return run.run_id


def _origin(job: str) -> RemoteJobOrigin:
    """Where the definitions lie; a run that is queued has to name it."""
    target = LoadableTargetOrigin(module_name="reviewsum_assets.definitions")
    location = InProcessCodeLocationOrigin(target, location_name="reviewsum_assets")
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job)
