"""Runs both halves of the benchmark, engines and stages, one after the other."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reviewsum_assets.bench import scale
from reviewsum_assets.bench.engines import engine_results
from reviewsum_assets.bench.preparation import EngineBenchOptions, prepared
from reviewsum_assets.bench.report import BenchResult, Machine
from reviewsum_assets.bench.stages import STAGES, stage_results
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.devices import device_name

PARTS = ("engines", "stages")


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Args:
        parts: of ``PARTS``; none: both, or only stages where some are named.
        stages: of ``STAGES``; none: all.
        engines: of the engine half.
        full: stages at full size.
        scratch: where inputs, models and lakes are made, and removed again; None: the usual place.
    """

    parts: Sequence[str]
    stages: Sequence[str]
    engines: EngineBenchOptions
    full: bool
    scratch: Path | None


def measure_all(options: BenchOptions, on_step: Callable[[str], None]) -> BenchResult:
    """Measure what is asked for; ``on_step`` is told what is being done.

    Raises:
        BenchmarkError: something asked for does not exist, or could not be measured.
    """
    _check(options)
    parts = options.parts or (("stages",) if options.stages else PARTS)
    started = time.monotonic()
    settings = _settings(options, parts)
    engines, stages = None, []
    if "engines" in parts:
        with tempfile.TemporaryDirectory(
            prefix="reviewsum-bench-", dir=options.scratch
        ) as directory:
            on_step("engines: reading reviews, making the model ready")
            bench = prepared(options.engines, Path(directory))
            settings["summary_settings"] = bench.model.settings.model_dump()
            engines = engine_results(bench, lambda turn: on_step(f"engines: {turn}"))
    size = scale.FULL if options.full else scale.DEFAULT
    if "stages" in parts:
        stages = stage_results(
            size,
            lambda stage: on_step(f"stage: {stage}"),
            stages=options.stages,
            scratch=options.scratch,
        )
    return BenchResult.of(
        Machine.this(device_name("cuda") if options.engines.device == "cuda" else ""),
        settings,
        time.monotonic() - started,
        engines,
        stages,
    )


def _check(options: BenchOptions) -> None:
    for kind, asked, known in (
        ("part", options.parts, PARTS),
        ("stage", options.stages, tuple(STAGES)),
    ):
        unknown = sorted(set(asked) - set(known))
        if unknown:
            raise BenchmarkError(f"no {kind} {unknown[0]!r}: there are {', '.join(known)}")


def _settings(options: BenchOptions, parts: Sequence[str]) -> dict[str, object]:
    """What the measurement depends on, for the record."""
    engines = options.engines
    found: dict[str, object] = {"parts": list(parts), "full": options.full}
    if "engines" in parts:
        found |= {
            "model": engines.shape or engines.model,
            "reviews": list(engines.dumps) or "sample dump",
            "products": engines.products,
            "repeats": engines.repeats,
            "output_tokens": engines.output_tokens or "as generated",
            "device": engines.device,
        }
    return found
