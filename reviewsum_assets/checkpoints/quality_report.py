"""Judges every summary of the merged table, slice by slice, so that memory holds one slice."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from reviewsum_assets.checkpoints.findings import MOST_EXAMPLES, Finding
from reviewsum_assets.checkpoints.merge import merged_slices
from reviewsum_assets.checkpoints.plan import INPUT_NULLABLE, INPUT_SCHEMA, Plan, read_table
from reviewsum_assets.checkpoints.summary_numbers import has_number, unsupported_numbers
from reviewsum_assets.checkpoints.summary_quality import Defect, with_defects
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import QualitySettings
from reviewsum_assets.tables import parse_table

_ROWS_A_SLICE = 10_000
# The reviews of a slice's products are read, too.
_CHARS_A_SLICE = 35_000_000
_EXCERPT_CHARS = 120
_REVIEWS_SCHEMA = pl.Schema({"product_id": pl.String, "all_reviews": pl.String})


@dataclass
class QualityReport:
    """How many summaries have which defect.

    ``compared`` are the summaries that were held against their reviews: those that name a number
    and whose reviews are still on the lake, and readable.
    """

    summaries: int = 0
    compared: int = 0
    defects: dict[Defect, Finding] = field(
        default_factory=lambda: {defect: Finding() for defect in Defect}
    )
    numbers: Finding = field(default_factory=Finding)


def judge_summaries(lake: Lake, plan: Plan, settings: QualitySettings) -> QualityReport:
    """Judge the merged table of ``plan``.

    Raises:
        CheckpointError: there is no merged table.
    """
    holders = read_table(lake, plan).select("product_id", "checkpoint")
    report = QualityReport()
    for rows in merged_slices(lake, _rows_a_slice(plan)):
        report.summaries += rows.height
        judged = with_defects(rows, settings)
        for defect, finding in report.defects.items():
            _add(finding, judged.filter(defect.value), _excerpt(defect))
        sourced = _beside_reviews(lake, plan, rows.join(holders, on="product_id"))
        report.compared += sourced.height
        numbers = unsupported_numbers(pl.col("abstracted_summary"), pl.col("all_reviews"))
        named = sourced.with_columns(numbers=numbers).filter(pl.col("numbers").list.len() > 0)
        _add(report.numbers, named, _number_list())
    return report


def _rows_a_slice(plan: Plan) -> int:
    recipes = {planned.recipe for planned in plan.checkpoints}
    longest = max(plan.recipes[recipe].settings.window_chars for recipe in recipes)
    return min(_ROWS_A_SLICE, max(1, _CHARS_A_SLICE // longest))


def _beside_reviews(lake: Lake, plan: Plan, rows: pl.DataFrame) -> pl.DataFrame:
    """The summaries that name a number, and the reviews that each was made from."""
    numeric = rows.filter(has_number(pl.col("abstracted_summary")))
    chosen = set(numeric["checkpoint"].unique())
    keys = [planned.input_key for planned in plan.checkpoints if planned.number in chosen]
    reviews = [_reviews(content) for content in lake.get_many(keys)]
    return numeric.join(pl.concat([_reviews(None), *reviews]), on="product_id")


def _reviews(content: bytes | None) -> pl.DataFrame:
    """product_id and all_reviews of a checkpoint; none where they are gone, or damaged."""
    try:
        table = parse_table(content or b"", INPUT_SCHEMA, nullable=INPUT_NULLABLE)
    except ValueError:  # a job that needs them says so
        table = pl.DataFrame(schema=INPUT_SCHEMA)
    return table.select("product_id", "all_reviews")


def _add(finding: Finding, rows: pl.DataFrame, detail: pl.Expr) -> None:
    first = rows.head(MOST_EXAMPLES).select("product_id", detail.alias("detail"))
    finding.add(rows.height, [(product, text) for product, text in first.iter_rows()])


def _excerpt(defect: Defect) -> pl.Expr:
    """The part of a summary that shows the defect."""
    if defect is Defect.TRUNCATED:
        text = pl.col("abstracted_summary").fill_null("")
        return pl.concat_str(pl.lit("… "), text.str.tail(_EXCERPT_CHARS))
    if defect is Defect.LENGTH:
        return pl.format("{} words: {}", "words", _beginning())
    return _beginning()


def _number_list() -> pl.Expr:
    """``2.5, 30: the summary …`` for a product's table row."""
    found = pl.col("numbers").list.eval(pl.element().cast(pl.String).str.replace(r"\.0$", ""))
    return pl.format("{}: {}", found.list.join(", "), _beginning())


def _beginning() -> pl.Expr:
    text = pl.col("abstracted_summary").fill_null("")
    is_long = text.str.len_chars() > _EXCERPT_CHARS
    return pl.concat_str(
        text.str.head(_EXCERPT_CHARS), pl.when(is_long).then(pl.lit(" …")).otherwise(pl.lit(""))
    )
