"""One call of `reviewsum bench`: what it measures, its result as one object, and as tables."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from reviewsum_assets.bench.engines import EngineOptions, EngineResults, engine_results, prepare
from reviewsum_assets.bench.stages import FULL, STAGES, Scale, StageResult, stage_results
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.devices import device_name

_PARTS = ("engines", "stages")
_LIBRARIES = ("ctranslate2", "torch", "transformers", "polars", "dagster")
# Headers by field, short enough for 80 columns.
_SPEED = {
    "name": "engine", "processes": "proc", "threads": "thr", "batch_tokens": "tokens",
    "settled_tokens": "settled", "chunks_per_s": "chunks/s", "ratio_to_baseline": "ratio",
    "peak_mb": "MB", "roofline_share": "roofline",
}  # fmt: skip
_AGREEMENT = {
    "name": "engine", "agreement": "identical", "rouge_l": "ROUGE-L",
    "rouge_l_to_baseline": "to predecessor",
}  # fmt: skip
_STAGES = {
    "name": "stage", "size": "of", "seconds": "s", "peak_mb": "MB", "baseline_seconds": "other s",
    "baseline_peak_mb": "MB", "ratio": "ratio",
}  # fmt: skip


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


def print_report(console: Console, result: BenchResult) -> None:
    """Print tables for people."""
    facts = {"machine": result.machine, "settings": result.settings}
    facts |= {"work of the engines": dict(result.measured)} if result.measured else {}
    facts |= {f"roofline of {dtype}": dict(bound) for dtype, bound in result.rooflines.items()}
    for title, values in facts.items():
        line = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
        console.print(f"{title}: {line}", soft_wrap=True, markup=False)
    if result.baseline:
        rows = [result.baseline, *result.engines]
        _print_table(console, "Speed, medians", rows, _SPEED)
        _print_table(console, "Agreement with transformers-float32", rows, _AGREEMENT)
        if result.differing:
            console.print(f"{len(result.differing)} summaries differ; --json has them")
    if result.stages:
        _print_table(console, "Stages", result.stages, _STAGES)
        for note in (f"{stage.name}: {stage.note}" for stage in result.stages if stage.note):
            console.print(note, soft_wrap=True)
    console.print(f"measured in {result.seconds:,.0f} s")


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


def _print_table(
    console: Console, title: str, rows: Sequence[BaseModel], columns: Mapping[str, str]
) -> None:
    """Print fields of rows; a value that was not measured is left empty."""
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for field, header in columns.items():
        table.add_column(header, no_wrap=field not in ("name", "size"), overflow="fold")
    for row in rows:
        values = (getattr(row, field) for field in columns)
        table.add_row(*map(_shown, values))
    console.print(table)


def _shown(value: float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"
    return "" if value is None else str(value)
