"""What every asset needs: settings, the lake, the compute, and somebody to tell of progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import dagster as dg

from reviewsum_assets.compute import Compute, compute_for
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import Settings, load_settings


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is; ``total`` may grow while it runs."""

    stage: str
    done: float
    total: float
    unit: str
    detail: str = ""


@dataclass(frozen=True)
class Pipeline:
    """The resource behind all assets."""

    settings: Settings
    on_progress: Callable[[StageProgress], None] | None = None

    @cached_property
    def lake(self) -> Lake:
        """The lake that the settings name."""
        return Lake.open(self.settings.lake)

    @cached_property
    def compute(self) -> Compute:
        """The compute that the settings name."""
        return compute_for(self.settings, self.lake)

    def tell(self, progress: StageProgress) -> None:
        """Pass progress on to whoever watches this run from outside Dagster."""
        if self.on_progress is not None:
            self.on_progress(progress)


@dg.resource(
    config_schema={
        "overrides": dg.Field(
            dict,
            default_value={},
            description="Settings that win over REVIEWSUM_* variables, by name.",
        )
    },
    description="Settings, lake and compute of all assets.",
)
def pipeline_resource(context: dg.InitResourceContext) -> Pipeline:
    """Settings come from ``REVIEWSUM_*`` variables; ``overrides`` win."""
    return Pipeline(load_settings(**context.resource_config["overrides"]))
