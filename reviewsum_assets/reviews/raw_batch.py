"""What every reader yields: some rows of a dump as raw fields, and the rows that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from reviewsum_assets.reviews.fields import PRODUCT_ID, RAW_FIELDS, TEXT
from reviewsum_assets.reviews.quarantine import BadRow

BATCH_ROWS = 100_000


@dataclass(frozen=True)
class RawBatch:
    """Some rows of a dump.

    ``fields`` are string columns named as in the dump; a grouped CSV has one more, ``line``.
    ``bytes_done`` is the position in the dump's file.
    """

    fields: pl.DataFrame
    bad: list[BadRow]
    bytes_done: int


def wanted(columns: Sequence[str]) -> list[str]:
    """Those of a dump's columns that mean something here."""
    return [name for name in columns if name in RAW_FIELDS]


def without_nameless(
    fields: pl.DataFrame, numbers: Sequence[int], bad: list[BadRow]
) -> tuple[pl.DataFrame, list[BadRow]]:
    """Take out rows that name no product.

    Args:
        fields: string columns.
        numbers: the line of each row.
        bad: the rows that are bad already.
    """
    is_named = pl.any_horizontal(
        pl.col(name).str.strip_chars().fill_null("") != ""
        for name in PRODUCT_ID
        if name in fields.columns
    )
    nameless = fields.select(pl.arg_where(~is_named)).to_series()
    if nameless.is_empty():
        return fields, bad
    texts = fields.select(pl.coalesce([name for name in TEXT if name in fields.columns]))
    found = [
        BadRow(numbers[index], "no product id", texts.item(index, 0) or "") for index in nameless
    ]
    return fields.filter(is_named), sorted([*bad, *found], key=lambda row: row.line)
