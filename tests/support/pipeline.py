"""A small pipeline on real parts: a dump, a model, a lake, a Dagster instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.plan import current_plan, partition_key, require_plan
from reviewsum_assets.definitions import defs
from reviewsum_assets.job.spec import JobSpec, job_spec
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.ready_models import put_ready_model

FAST = {"max_length": 16, "min_length": 4, "device": "cpu", "workers": 1, "checkpoint_size": 2}


def write_dump(path: Path, products: Mapping[str, str], reviews: int = 5) -> Path:
    """A grouped CSV with one text a product; the first named have most reviews."""
    rows = [
        f'{product},"{text}",{reviews + len(products) - rank}'
        for rank, (product, text) in enumerate(products.items())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["product_id,all_reviews,review_count", *rows]) + "\n")
    return path


def texts(count: int) -> dict[str, str]:
    """Texts of so many products."""
    return {f"P{n:03d}": f"The sound of number {n} is good, the battery poor" for n in range(count)}


@dataclass
class SmallPipeline:
    """Runs the project's own jobs in this process."""

    instance: dg.DagsterInstance
    pipeline: Pipeline

    @classmethod
    def build(
        cls, instance: dg.DagsterInstance, lake: Lake, model: Path, dump: Path, **settings: Any
    ) -> SmallPipeline:
        """A pipeline that reads one dump; its model is ready."""
        put_ready_model(lake, model)
        chosen = load_settings(
            lake=lake.uri, model=str(model), dumps=(str(dump),), **{**FAST, **settings}
        )
        return cls(instance, Pipeline(chosen))

    def execute(self, job: str, tags: Mapping[str, str] | None = None, **config: Any) -> Any:
        """Execute a job; a failure is returned, not raised."""
        return defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            resources={"pipeline": self.pipeline},
            tags=dict(tags or {}),
            run_config={"ops": config, "loggers": {"console": {"config": {"log_level": "ERROR"}}}},
            raise_on_error=False,
        )

    def refresh(self) -> Any:
        """Go from dumps to the merged table in one run."""
        return self.execute("refresh")

    def summarize(self, first: int, last: int, **config: Any) -> Any:
        """Materialize a range of checkpoints."""
        tags = {
            "dagster/asset_partition_range_start": partition_key(first),
            "dagster/asset_partition_range_end": partition_key(last),
        }
        return self.execute("summarize", tags, **config)

    def materializations(self, run: Any) -> dict[str, dict[str, Any]]:
        """Metadata values of the checkpoints that a run materialized, in order of logging."""
        found = [
            entry.asset_materialization
            for entry in self.instance.all_logs(run.run_id)
            if entry.asset_materialization is not None
        ]
        return {
            materialization.partition or materialization.asset_key.to_user_string(): {
                key: value.value for key, value in materialization.metadata.items()
            }
            for materialization in found
        }

    def with_settings(self, **changes: Any) -> SmallPipeline:
        """The same with other settings."""
        settings = load_settings(**{**self.pipeline.settings.model_dump(), **changes})
        return SmallPipeline(self.instance, Pipeline(settings))

    def job_spec(self) -> JobSpec:
        """A job for all checkpoints of the current plan."""
        plan = require_plan(self.pipeline.lake)
        engine = self.pipeline.settings.engine_settings()
        return job_spec(plan, plan.checkpoints, lake=self.pipeline.lake.uri, engine=engine)

    @property
    def checkpoints(self) -> list[int]:
        """Numbers of the current plan's checkpoints."""
        plan = current_plan(self.pipeline.lake)
        assert plan is not None
        return [planned.number for planned in plan.checkpoints]


def failure(run: Any) -> str:
    """The message of a run's one failed step."""
    error = _step_failure(run).error
    return str(error.cause.message if error.cause else error.message)


def failure_metadata(run: Any) -> dict[str, Any]:
    """Metadata values of the failure that a run's step raised on purpose."""
    metadata = _step_failure(run).user_failure_data.metadata
    return {name: value.value for name, value in metadata.items()}


def _step_failure(run: Any) -> Any:
    (event,) = [event for event in run.all_events if event.event_type_value == "STEP_FAILURE"]
    return event.event_specific_data
