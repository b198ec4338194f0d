"""What every reader yields: some rows of a dump as raw fields, and the rows that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from reviewsum_assets.reviews.fields import RAW_FIELDS, TEXT
from reviewsum_assets.reviews.product_ids import product_id, what_is_wrong
from reviewsum_assets.reviews.quarantine import BadRow
from reviewsum_assets.reviews.staging import GROUPED_SCHEMA

MEANINGFUL = frozenset((*RAW_FIELDS, *GROUPED_SCHEMA))

BATCH_ROWS = 100_000
# A grouped CSV has few rows and much text in each.
BATCH_CHARS = 64 * 1024 * 1024

# In bytes or characters: some 200,000 reviews of a product in a grouped CSV. What has more is no
# row, but a quote that nobody closed or a file that is meant to fill the memory.
MOST_ROW_LENGTH = 64 * 1024 * 1024
TOO_LONG = f"longer than {MOST_ROW_LENGTH:,} characters"


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
    return [name for name in columns if name in MEANINGFUL]


def without_nameless(
    fields: pl.DataFrame, numbers: Sequence[int], bad: list[BadRow]
) -> tuple[pl.DataFrame, list[BadRow]]:
    """Take out rows that name no product, or not in a way that is taken.

    Args:
        fields: string columns.
        numbers: the line of each row.
        bad: the rows that are bad already.
    """
    reasons = fields.select(what_is_wrong(product_id(fields.columns))).to_series()
    nameless = reasons.is_not_null().arg_true()
    if nameless.is_empty():
        return fields, bad
    texts = fields.select(pl.coalesce([name for name in TEXT if name in fields.columns]))
    found = [
        BadRow.of(numbers[index], reasons[index], texts.item(index, 0) or "") for index in nameless
    ]
    return fields.filter(reasons.is_null()), sorted([*bad, *found], key=lambda row: row.line)
