"""Prints an evaluation: as tables for a terminal, as Markdown, or as CSV.

Tables give ROUGE times 100, as papers do; CSV and JSON as it is, from 0 to 1.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from typing import TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from reviewsum_assets.evaluation.measures import Interval
from reviewsum_assets.evaluation.scoring import EvaluationResult

_INTERVALS = ("rouge1", "rouge2", "rouge_l", "difference")
_NUMBERS = ("words", "compression", "novelty", "repetition", "sentiment_agreement")

_Table = tuple[list[str], list[list[str]]]


def print_tables(console: Console, result: EvaluationResult) -> None:
    """Print tables for people, narrow enough for a terminal."""
    for header, rows in (_rouge(result), _texts(result)):
        table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
        table.add_column(header[0])
        for name in header[1:]:
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for sentence in _sentences(result):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def print_markdown(file: TextIO, result: EvaluationResult) -> None:
    """Write the same as Markdown."""
    for header, rows in (_rouge(result), _texts(result)):
        for line in (header, ["---"] * len(header), *rows):
            file.write(f"| {' | '.join(line)} |\n")
        file.write("\n")
    file.writelines(f"{sentence}\n" for sentence in _sentences(result))


def print_csv(file: TextIO, result: EvaluationResult) -> None:
    """Write one row a system, with every figure in a column of its own."""
    writer = csv.writer(file, lineterminator="\n")
    bounds = ("", "_low", "_high")
    writer.writerow(
        ["name", "kind", "source", *(f"{n}{b}" for n in _INTERVALS for b in bounds), *_NUMBERS]
    )
    for system in result.systems:
        intervals = [value for name in _INTERVALS for value in getattr(system, name)]
        numbers = [getattr(system, name) for name in _NUMBERS]
        writer.writerow([system.name, system.kind, system.source, *intervals, *numbers])


def _rouge(result: EvaluationResult) -> _Table:
    header = ["system", "ROUGE-1", "ROUGE-2", "ROUGE-L"]
    return header, [
        [s.name, _interval(s.rouge1), _interval(s.rouge2), _interval(s.rouge_l)]
        for s in result.systems
    ]


def _texts(result: EvaluationResult) -> _Table:
    header = ["system", "difference", "words", "compression", "novel", "repeated", "stars"]
    return header, [
        [
            system.name,
            "" if system.name == result.compared_with else _interval(system.difference),
            f"{system.words:.0f}",
            f"{system.compression:.1f}",
            f"{system.novelty:.1%}",
            f"{system.repetition:.1%}",
            "" if system.sentiment_agreement is None else f"{system.sentiment_agreement:.2f}",
        ]
        for system in result.systems
    ]


def _sentences(result: EvaluationResult) -> Iterator[str]:
    yield (
        f"{result.products} products, the mean of {result.references_a_product:.2g} references; in "
        "brackets 95 % intervals"
    )
    yield f"difference: of ROUGE-L, to {result.compared_with}"
    if any(system.sentiment_agreement is not None for system in result.systems):
        # Of a rank correlation near 0; nearer to 1 it is smaller.
        error = 1.96 / math.sqrt(max(1, result.products - 1))
        yield f"stars: rank correlation of sentiment and stars, within {error:.2f}"
    bounds = [system.name for system in result.systems if system.kind == "bound"]
    if bounds:
        yield f"{' and '.join(bounds)}: bounds, since they know the references"
    if result.left_out:
        lacking = ", ".join(f"{name} {count}" for name, count in result.left_out.items())
        yield f"left out are products of the references that are lacking: {lacking}"
    yield from result.notes


def _interval(found: Interval) -> str:
    mean, low, high = (100 * value for value in found)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
