"""Reads the grouped CSV of the replaced script: its rows are products already."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import MOST_COUNTED, cleaned, finite, product_id, what_is_wrong
from reviewsum_assets.reviews.formats import Format
from reviewsum_assets.reviews.quarantine import BadRow
from reviewsum_assets.reviews.readers import read_batches
from reviewsum_assets.reviews.staging import GROUPED_SCHEMA, RawBatch

_TEXTS = ("all_reviews", "all_user_summaries")
# A column of a CSV is no list.
_NEVER_GIVEN = ("review_ratings", "review_places")


def read_products(dump: Dump, detected: Format) -> Iterator[RawBatch]:
    """Batches of products in ``GROUPED_SCHEMA``; optional columns that are absent are null.

    Rows whose product id or review_count cannot be used are bad, and so are repeated products.
    """
    seen: set[str] = set()
    for batch in read_batches(dump, detected):
        typed, lines = _typed(batch.fields), batch.fields["line"]
        judged = typed.select(what_is_wrong(product_id(["product_id"])), "review_count")
        reasons = [
            wrong_id or _reason(product, review_count, seen)
            for product, (wrong_id, review_count) in zip(
                typed["product_id"], judged.iter_rows(), strict=True
            )
        ]
        good = typed.filter(pl.Series([reason is None for reason in reasons], dtype=pl.Boolean))
        bad = [
            BadRow.of(lines[index], reason, str(typed["product_id"][index] or ""))
            for index, reason in enumerate(reasons)
            if reason is not None
        ]
        yield RawBatch(good, [*batch.bad, *bad], batch.bytes_done)


def _typed(fields: pl.DataFrame) -> pl.DataFrame:
    columns = [
        _cast(pl.col(name).str.strip_chars(), dtype)
        if name in fields.columns and name not in _NEVER_GIVEN
        else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in GROUPED_SCHEMA.items()
    ]
    texts = [cleaned(pl.col(name)) for name in _TEXTS]
    return fields.select(columns).with_columns(texts)


def _cast(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Text as another type, null where it is none; pandas writes whole numbers as ``12.0`` too."""
    if dtype == pl.Float64:
        return finite(text)
    if dtype == pl.Int64:
        text = text.str.replace(r"\.0*$", "")
    return text.cast(dtype, strict=False)


def _reason(product: str, review_count: int | None, seen: set[str]) -> str | None:
    if review_count is None:
        return "review_count is not a whole number"
    if not 0 <= review_count <= MOST_COUNTED:
        return f"review_count is not between 0 and {MOST_COUNTED:,}"
    if product in seen:
        return "this product was there before"
    seen.add(product)
    return None
