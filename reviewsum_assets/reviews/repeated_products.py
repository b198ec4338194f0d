"""Finds products that the grouped reviews hold twice: each would be summarized twice."""

from __future__ import annotations

import polars as pl


def repeated_products(grouped: pl.LazyFrame) -> pl.DataFrame:
    """Products that have more than one row, or none that names them: product_id, times."""
    times = grouped.group_by("product_id").len("times")
    is_wrong = (pl.col("times") > 1) | pl.col("product_id").fill_null("").eq("")
    return times.filter(is_wrong).sort("product_id").collect(engine="streaming")
