"""Resource of all assets: settings, lake, compute, and a receiver of progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import dagster as dg

from reviewsum_assets.compute import Compute, compute_for
from reviewsum_assets.lake_state import LakeState
from reviewsum_assets.settings import AutomationSettings, Settings, load_settings
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.overlay import Overlay


@dataclass(frozen=True)
class StageProgress:
    """Progress of a stage; ``total`` may grow while it runs."""

    stage: str
    done: float
    total: float
    unit: str
    detail: str = ""


@dataclass(frozen=True)
class Pipeline:
    """The resource behind all assets."""

    # A function loads the settings at first use: an error in a resource that starts would be
    # shown with a stack trace and retried as a crash.
    source: Settings | Callable[[], Settings]
    on_progress: Callable[[StageProgress], None] | None = None
    on_message: Callable[[str], None] | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)  # settings of the run's config
    scratch: Path | None = None  # an empty directory: the lake stays unchanged, see lake.Overlay

    @cached_property
    def settings(self) -> Settings:
        """The settings.

        Raises:
            SettingsError: a value cannot work.
        """
        return self.source if isinstance(self.source, Settings) else self.source()

    @cached_property
    def lake(self) -> Lake:
        """The lake that the settings name, or an overlay of it."""
        if self.scratch is not None:
            return Overlay(self.settings.lake, self.scratch)
        return Lake.open(self.settings.lake)

    @cached_property
    def state(self) -> LakeState:
        """State of the lake; each part is read once."""
        return LakeState(self.lake)

    @cached_property
    def compute(self) -> Compute:
        """The compute that the settings name."""
        return compute_for(self.settings, self.lake)

    def say(self, log: Callable[[str], None], sentence: str) -> None:
        """Log a sentence, and pass it on to a person who does not see the log."""
        log(sentence)
        if self.on_message is not None:
            self.on_message(sentence)

    def report(self, progress: StageProgress) -> None:
        """Pass progress on to a receiver outside Dagster."""
        if self.on_progress is not None:
            self.on_progress(progress)


def _override_fields() -> dict[str, dg.Field]:
    """A typed field per setting, so that the launchpad refuses a wrong name or type."""
    return {
        name: dg.Field(
            _config_type(name, info.annotation), is_required=False, description=info.description
        )
        for name, info in Settings.model_fields.items()
        if name not in AutomationSettings.model_fields
    }


def _config_type(name: str, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return dg.Enum(f"reviewsum_{name}", [dg.EnumValue(str(value)) for value in arguments])
    if origin is UnionType:
        (present,) = (one for one in arguments if one is not type(None))
        return dg.Noneable(_config_type(name, present))
    if origin is tuple:
        return dg.Array(str)
    if origin is dict:
        # Dagster leaves the constructors of Map and Shape without types.
        return dg.Map(str, str)  # type: ignore[no-untyped-call]
    return str if annotation is date else annotation


@dg.resource(
    config_schema={
        "overrides": dg.Field(
            # Without types, as Map.
            dg.Shape(_override_fields()),  # type: ignore[no-untyped-call]
            default_value={},
            description="Settings of this run; the others come from REVIEWSUM_* variables.",
        )
    },
    description="Settings, lake and compute of all assets.",
)
def pipeline_resource(context: dg.InitResourceContext) -> Pipeline:
    """Settings come from ``REVIEWSUM_*`` variables; ``overrides`` win."""
    overrides = context.resource_config["overrides"]
    return Pipeline(lambda: load_settings(**overrides), overrides=overrides)
