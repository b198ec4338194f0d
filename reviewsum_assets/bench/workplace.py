"""Where a stage is measured, and what its measurements come to."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.bench.measure import Measurement, measure, measure_command
from reviewsum_assets.bench.scale import Scale
from reviewsum_assets.settings import ENVIRONMENT_PREFIX

T = TypeVar("T")


class StageResult(BaseModel):
    """What one stage takes: the median of its seconds, the highest of its peaks, in MB.

    ``ratio`` is how many times as long the baseline takes; None where there is no baseline.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    size: str
    seconds: float
    baseline_seconds: float | None = None
    ratio: float | None = None
    peak_mb: float
    baseline_peak_mb: float | None = None
    repeats: int
    note: str = ""

    @classmethod
    def of(cls, name: str, size: str, own: Sequence[Measurement[Any]]) -> StageResult:
        """The result of measurements that nothing is compared with."""
        return cls(
            name=name,
            size=size,
            seconds=_median_seconds(own),
            peak_mb=_highest_peak(own),
            repeats=len(own),
        )

    def against(
        self, baseline: Sequence[Measurement[Any]], note: str, *, times: float = 1.0
    ) -> StageResult:
        """The same beside its baseline.

        Args:
            baseline: its measurements.
            note: what the baseline is.
            times: how often the baseline's work goes into that of this stage; its seconds are
                multiplied by it, its memory is left as it was measured.
        """
        seconds = times * _median_seconds(baseline)
        return self.model_copy(
            update={
                "baseline_seconds": seconds,
                "ratio": seconds / self.seconds,
                "baseline_peak_mb": _highest_peak(baseline),
                "note": note,
            }
        )


@dataclass(frozen=True)
class Workplace:
    """A directory that holds all inputs and lakes of a stage, and how large they are to be."""

    scale: Scale
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """That of this process, without the settings in it: what is measured are the defaults."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ENVIRONMENT_PREFIX)}
        home = self.directory / "dagster_home"
        return {**kept, "DAGSTER_HOME": str(home), "TMPDIR": str(self.directory)}

    def measure(
        self, function: Callable[..., T], *arguments: Any, **options: Any
    ) -> Measurement[T]:
        """Measure a call; see ``measure.measure``."""
        return measure(function, *arguments, environment=self.environment, **options)

    def measure_command(self, command: Sequence[str]) -> Measurement[str]:
        """Measure a command that works in this place; see ``measure.measure_command``."""
        return measure_command(command, environment=self.environment, directory=self.directory)

    def in_turns(
        self, *contenders: Callable[[], Measurement[Any]]
    ) -> tuple[list[Measurement[Any]], ...]:
        """The measurements of each contender; all are measured once before any is again."""
        rounds = [[contender() for contender in contenders] for _ in range(self.scale.repeats)]
        return tuple(list(of_one) for of_one in zip(*rounds, strict=True))

    def new_lake(self, name: str) -> str:
        """A lake that holds nothing."""
        shutil.rmtree(self.directory / name, ignore_errors=True)
        return str(self.directory / name)


def _median_seconds(measurements: Sequence[Measurement[Any]]) -> float:
    return statistics.median(measurement.seconds for measurement in measurements)


def _highest_peak(measurements: Sequence[Measurement[Any]]) -> float:
    return max(measurement.peak_mb for measurement in measurements)
