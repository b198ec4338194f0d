"""``reviewsum evaluate``: how good summaries are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from reviewsum_assets.cli_options import JsonOption, chosen_settings
from reviewsum_assets.cli_output import err, out, print_json


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
    compare_with: Annotated[
        str, typer.Option(help="System that the others are compared with. Default: the lead.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the random review and the resamples.")] = 0,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Score summaries beside human ones and baselines; computes nothing unless a model is named."""
    from reviewsum_assets.evaluation import command
    from reviewsum_assets.evaluation.report import print_csv, print_markdown, print_tables

    result = command.evaluate(
        command.EvaluationOptions(
            references=references,
            lakes=tuple(lake or ()),
            tables=tuple(table or ()),
            models=tuple(model or ()),
            model_lakes=model_lakes,
            compared_with=compare_with,
            seed=seed,
        ),
        chosen_settings(dumps=tuple(dump) if dump else None),
        on_step=lambda step: err.print(step, highlight=False, soft_wrap=True),
    )
    if as_json:
        print_json(result)
    elif as_csv:
        print_csv(sys.stdout, result)
    elif as_markdown:
        print_markdown(sys.stdout, result)
    else:
        print_tables(out, result)
