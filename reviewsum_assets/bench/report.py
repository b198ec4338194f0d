"""The result of `reviewsum bench`, as one object and as tables."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from reviewsum_assets.bench.engines import EngineBenchResult, EngineResult, Measured
from reviewsum_assets.bench.roofline import Roofline
from reviewsum_assets.bench.workplace import StageResult

_LIBRARIES = ("ctranslate2", "torch", "transformers", "polars", "dagster")
_DIFFERENCES_SHOWN = 5


class Machine(BaseModel):
    """Where it was measured."""

    model_config = ConfigDict(frozen=True)

    processor: str
    cores: int
    memory_gib: float
    gpu: str
    python: str
    libraries: dict[str, str]

    @classmethod
    def this(cls, gpu: str) -> Machine:
        """The machine that this process runs on."""
        return cls(
            processor=_processor(),
            cores=os.cpu_count() or 1,
            memory_gib=psutil.virtual_memory().total / 2**30,
            gpu=gpu,
            python=platform.python_version(),
            libraries={name: version(name) for name in _LIBRARIES},
        )


class BenchResult(BaseModel):
    """Everything that was measured in one call; what was not asked for is empty."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    settings: dict[str, Any]
    seconds: float
    measured: Measured | None
    baseline: EngineResult | None
    engines: tuple[EngineResult, ...]
    rooflines: dict[str, Roofline]
    differing: tuple[str, ...]
    stages: tuple[StageResult, ...]

    @classmethod
    def of(
        cls,
        machine: Machine,
        settings: dict[str, Any],
        seconds: float,
        engines: EngineBenchResult | None,
        stages: list[StageResult],
    ) -> BenchResult:
        """Put the halves together."""
        return cls(
            machine=machine,
            settings=settings,
            seconds=seconds,
            measured=None if engines is None else engines.measured,
            baseline=None if engines is None else engines.baseline,
            engines=() if engines is None else engines.engines,
            rooflines={} if engines is None else engines.rooflines,
            differing=() if engines is None else engines.differing,
            stages=tuple(stages),
        )


def print_report(console: Console, result: BenchResult) -> None:
    """Print tables for people."""
    machine = result.machine
    libraries = ", ".join(f"{name} {number}" for name, number in machine.libraries.items())
    console.print(
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB"
        f"{f', {machine.gpu}' if machine.gpu else ''}; Python {machine.python}, {libraries}",
        soft_wrap=True,
    )
    console.print(
        "settings: " + ", ".join(f"{name} {value}" for name, value in result.settings.items()),
        soft_wrap=True,
    )
    if result.measured is not None and result.baseline is not None:
        _print_engines(console, result, result.measured, result.baseline)
    if result.stages:
        _print_stages(console, result.stages)
    console.print(f"measured in {result.seconds:,.0f} s")


def _print_engines(
    console: Console, result: BenchResult, measured: Measured, baseline: EngineResult
) -> None:
    speed = _table(
        f"Speed: {measured.products} products, {measured.chunks} chunks of "
        f"{measured.tokens_in:.0f} tokens in and {measured.tokens_out:.0f} out, "
        f"median of {measured.repeats}",
        ["engine"],
        ["chunks/s", "ratio", "range", "MB", "roofline"],
    )
    compared = _table(
        f"Agreement: {measured.compared_chunks:,} chunks, with transformers-float32",
        ["engine"],
        ["identical", "ROUGE-L", "to predecessor"],
    )
    for row in (baseline, *result.engines):
        speed.add_row(
            row.name,
            f"{row.chunks_per_s:.2f}",
            f"{row.ratio_to_baseline:.1f}",
            f"{min(row.ratios):.1f}-{max(row.ratios):.1f}",
            f"{row.peak_mb:,.0f}",
            _percent(row.roofline_share, 0),
        )
        compared.add_row(
            row.name,
            _percent(row.agreement, 2),
            _number(row.rouge_l, 4),
            _number(row.rouge_l_to_baseline, 4),
        )
    console.print(speed)
    layouts: dict[str, list[str]] = {}
    for row in (baseline, *result.engines):
        layouts.setdefault(f"{row.processes} x {row.threads}", []).append(row.name)
    for layout, names in layouts.items():
        console.print(f"processes x threads: {layout} of {', '.join(names)}", style="dim")
    for row in result.engines:
        if row.settled_tokens < row.batch_tokens:
            console.print(
                f"out of memory: {row.name} went from {row.batch_tokens:,} source tokens per batch "
                f"to {row.settled_tokens:,}",
                soft_wrap=True,
            )
    console.print(compared)
    for dtype, bound in result.rooflines.items():
        console.print(
            f"roofline {dtype}: a chunk is {bound.gflop_per_chunk:.3g} GFLOP and "
            f"{bound.mb_per_chunk:,.0f} MB; this device does {bound.device_gflops:,.0f} GFLOP/s "
            f"and {bound.device_gb_per_s:,.1f} GB/s, so at most {bound.bound_chunks_per_s:.3g} "
            f"chunks/s, bound by {bound.bound_by}",
            soft_wrap=True,
        )
    for text in result.differing[:_DIFFERENCES_SHOWN]:
        console.print(f"differs: {text}", markup=False, highlight=False, soft_wrap=True)
    if len(result.differing) > _DIFFERENCES_SHOWN:
        console.print(f"and {len(result.differing) - _DIFFERENCES_SHOWN} more; --json has all")


def _print_stages(console: Console, stages: tuple[StageResult, ...]) -> None:
    table = _table("Stages", ["stage", "of"], ["s", "MB", "other s", "MB", "ratio"])
    for stage in stages:
        table.add_row(
            stage.name,
            stage.size,
            f"{stage.seconds:.2f}",
            f"{stage.peak_mb:,.0f}",
            _number(stage.baseline_seconds, 1),
            _number(stage.baseline_peak_mb, 0),
            _number(stage.ratio, 1),
        )
    console.print(table)
    for stage in stages:
        if stage.note:
            console.print(f"{stage.name}: {stage.note}", soft_wrap=True)


def _table(title: str, words: list[str], numbers: list[str]) -> Table:
    """A table for narrow terminals: only the second column of words may be broken."""
    table = Table(
        title=title, title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True
    )
    for place, name in enumerate(words):
        table.add_column(name, no_wrap=place == 0)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _percent(share: float | None, digits: int) -> str:
    return "" if share is None else f"{share:.{digits}%}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
