"""``reviewsum bench`` and ``reviewsum evaluate``: speed of engines, quality of summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from reviewsum_assets.cli.output import JsonOption, chosen_settings, err, out, show

if TYPE_CHECKING:
    from reviewsum_assets.bench.report import BenchResult

_STAGES = (
    "One stage: grouping, planning, 'finished checkpoints' or definitions; may be repeated. "
    "Default: all."
)
_FULL = "Stages at full size: 6.7 million reviews, half an hour."
_SHAPE = "In place of a model: random weights, as pegasus-cnn_dailymail."
_DUMP = "Reviews for the engines; may be repeated. Default: the sample dump."
_PROCESSES = "Replicas of each engine on the device. 0: as in a job."
_OUTPUT_TOKENS = "Tokens that every chunk summary has exactly."
_BATCH_TOKENS = "Source tokens per batch; may be repeated."
_PARTS = "engines or stages; may be repeated. Default: both."
# Headers by field, short enough for 80 columns.
_SPEED_COLUMNS = {
    "name": "engine", "processes": "proc", "threads": "thr", "batch_tokens": "tokens",
    "settled_tokens": "settled", "chunks_per_s": "chunks/s", "ratio_to_baseline": "ratio",
    "peak_mb": "MB", "roofline_share": "roofline",
}  # fmt: skip
_AGREEMENT_COLUMNS = {
    "name": "engine", "agreement": "identical", "rouge_l": "ROUGE-L",
    "rouge_l_to_baseline": "to predecessor",
}  # fmt: skip
_STAGE_COLUMNS = {
    "name": "stage", "size": "of", "seconds": "s", "peak_mb": "MB", "baseline_seconds": "other s",
    "baseline_peak_mb": "MB", "ratio": "ratio",
}  # fmt: skip


def bench(
    part: Annotated[list[str] | None, typer.Option(help=_PARTS)] = None,
    stage: Annotated[list[str] | None, typer.Option(help=_STAGES)] = None,
    dump: Annotated[list[str] | None, typer.Option(help=_DUMP)] = None,
    model: Annotated[str, typer.Option(help="Model for the engines, as for run.")] = "demo",
    shape: Annotated[str, typer.Option(help=_SHAPE)] = "",
    products: Annotated[int, typer.Option(help="Products per turn of the engines.")] = 20,
    repeats: Annotated[int, typer.Option(help="Turns of the engines.")] = 3,
    compared_chunks: Annotated[int, typer.Option(help="Chunks to compare engines on.")] = 2_000,
    output_tokens: Annotated[int | None, typer.Option(help=_OUTPUT_TOKENS)] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch_tokens: Annotated[list[int] | None, typer.Option(help=_BATCH_TOKENS)] = None,
    processes: Annotated[int, typer.Option(help=_PROCESSES)] = 0,
    full: Annotated[bool, typer.Option("--full", help=_FULL)] = False,
    scratch: Annotated[
        Path | None, typer.Option(help="Directory for inputs, removed again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure engines and stages beside the script they replace, without using a lake."""
    from reviewsum_assets.bench.engines import EngineOptions
    from reviewsum_assets.bench.report import measure_all
    from reviewsum_assets.bench.stages import DEFAULT, FULL

    options = EngineOptions(
        tuple(dump or ()), model, shape, products, repeats, compared_chunks, output_tokens, device,
        tuple(batch_tokens or ()), processes,
    )  # fmt: skip
    result = measure_all(
        part or (),
        stage or (),
        options,
        FULL if full else DEFAULT,
        scratch,
        on_step=lambda step: err.print(step, highlight=False, soft_wrap=True),
    )
    show(result, as_json, partial(print_measured, out))


def print_measured(console: Console, result: BenchResult) -> None:
    """Print tables of engines and stages."""
    facts = {"machine": result.machine, "settings": result.settings}
    facts |= {"work of the engines": dict(result.measured)} if result.measured else {}
    facts |= {f"roofline of {dtype}": dict(bound) for dtype, bound in result.rooflines.items()}
    for title, values in facts.items():
        line = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
        console.print(f"{title}: {line}", soft_wrap=True, markup=False)
    if result.baseline:
        rows = [result.baseline, *result.engines]
        _print_table(console, "Speed, medians", rows, _SPEED_COLUMNS)
        _print_table(console, "Agreement with transformers-float32", rows, _AGREEMENT_COLUMNS)
        if result.differing:
            console.print(f"{len(result.differing)} summaries differ; --json has them")
    if result.stages:
        _print_table(console, "Stages", result.stages, _STAGE_COLUMNS)
        for note in (f"{stage.name}: {stage.note}" for stage in result.stages if stage.note):
            console.print(note, soft_wrap=True)
    console.print(f"measured in {result.seconds:,.0f} s")


def evaluate(
    references: Annotated[
        Path, typer.Option(help="CSV of human summaries: product_id, reference_1, reference_2, ...")
    ],
    lake: Annotated[
        list[str] | None,
        typer.Option(help="Lake whose merged table is judged, as NAME=URI; may be repeated."),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="CSV or Parquet that is judged, as NAME=PATH; may be repeated."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model, as for run, that first summarizes the references' products, as "
            "NAME=MODEL; may be repeated."
        ),
    ] = None,
    model_lakes: Annotated[
        Path, typer.Option(help="Where such a model's lake is made, and kept for the next call.")
    ] = Path("reviewsum_evaluation"),
    dump: Annotated[
        list[str] | None,
        typer.Option(help="Reviews. Default: those of the first lake. May be repeated."),
    ] = None,
    entailment_model: Annotated[
        Path | None,
        typer.Option(
            help="Directory of a LettuceDetect model that marks words without support. Needs the "
            "extra entailment."
        ),
    ] = None,
    compare_with: Annotated[
        str, typer.Option(help="System that the others are compared with. Default: the lead.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the random review and the resamples.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Score summaries beside human ones and baselines; computes nothing unless a model is named."""
    from reviewsum_assets.evaluation import command
    from reviewsum_assets.evaluation.report import print_tables

    result = command.evaluate(
        references,
        chosen_settings(dumps=tuple(dump) if dump else None),
        lambda step: err.print(step, highlight=False, soft_wrap=True),
        lakes=lake or (),
        tables=table or (),
        models=model or (),
        model_lakes=model_lakes,
        entailment_model=entailment_model,
        compared_with=compare_with,
        seed=seed,
    )
    show(result, as_json, partial(print_tables, out))


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
