"""What every asset needs: settings, the lake, the compute, and somebody to tell of progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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


class PipelineResource(dg.ConfigurableResourceFactory[Pipeline]):
    """Settings come from ``REVIEWSUM_*`` variables; ``overrides`` win, for one run or all."""

    overrides: dict[str, Any] = {}  # noqa: RUF012 - a pydantic field, copied for each instance

    def create_resource(self, context: dg.InitResourceContext) -> Pipeline:  # noqa: ARG002
        """Read and validate the settings."""
        return Pipeline(load_settings(**self.overrides))
