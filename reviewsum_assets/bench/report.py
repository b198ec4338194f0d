"""One call of `reviewsum bench`: what it measures, and its result as one object."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from reviewsum_assets.bench.engines import EngineOptions, EngineResults, engine_results, prepare
from reviewsum_assets.bench.stages import FULL, STAGES, Scale, StageResult, stage_results
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.devices import device_name

_PARTS = ("engines", "stages")
_LIBRARIES = ("ctranslate2", "torch", "transformers", "polars", "dagster")


class BenchResult(EngineResults):
    """Everything that one call measured, and where; parts that were not asked for are empty."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    seconds: float = 0.0
    stages: tuple[StageResult, ...] = ()


def measure_all(
    parts: Sequence[str],
    names: Sequence[str],
    options: EngineOptions,
    scale: Scale,
    scratch: Path | None,
    on_step: Callable[[str], None],
) -> BenchResult:
    """Measure parts, or both, and stages, or all; raises BenchmarkError if one cannot be."""
    for kind, asked, known in (("part", parts, _PARTS), ("stage", names, tuple(STAGES))):
        for name in set(asked).difference(known):
            raise BenchmarkError(f"no {kind} {name!r}: there are {', '.join(known)}")
    parts = parts or (("stages",) if names else _PARTS)
    started = time.monotonic()
    settings: dict[str, Any] = {"parts": list(parts), "full": scale is FULL}
    found = EngineResults()
    if "engines" in parts:
        with tempfile.TemporaryDirectory(prefix="reviewsum-bench-", dir=scratch) as directory:
            on_step("engines: reading reviews, making the model ready")
            options, model, texts = prepare(options, Path(directory))
            settings |= vars(options) | {
                "model": options.shape or options.model,
                "reviews": list(options.dumps) or "sample dump",
                "output_tokens": options.output_tokens or "as generated",
                "summary_settings": model.settings.model_dump(),
            }
            found = engine_results(options, model, texts, lambda s: on_step(f"engines: {s}"))
    return BenchResult(
        **dict(found),
        machine=_machine(device_name("cuda") if options.device == "cuda" else ""),
        settings=settings,
        stages=tuple(stage_results(scale, names, scratch, on_step) if "stages" in parts else ()),
        seconds=time.monotonic() - started,
    )


def _machine(gpu: str) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gib": psutil.virtual_memory().total / 2**30,
        "gpu": gpu,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
