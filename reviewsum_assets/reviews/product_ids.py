"""Which product ids are taken: from which field of a row, and what they must not hold.

An id is never changed but for white space around it, so ids that only look alike stay apart. What
could not come back from a CSV as it went in, or not be told apart on a screen, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

# The first that is not blank counts: variants of a product are reviewed as one.
PRODUCT_ID = ("parent_asin", "product_id", "asin")
MOST_CHARS = 256

# Characters that control a terminal or end a line.
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]"


def product_id(columns: Sequence[str]) -> pl.Expr:
    """A row's product id, null where it has none.

    Args:
        columns: string columns that are there, at least one of ``PRODUCT_ID`` among them.
    """
    ids = [pl.col(name).str.strip_chars() for name in PRODUCT_ID if name in columns]
    return pl.coalesce([pl.when(found != "").then(found) for found in ids])


def what_is_wrong(product: pl.Expr) -> pl.Expr:
    """Why a product id is not taken, null where it is."""
    return (
        pl.when(product.is_null())
        .then(pl.lit("no product id"))
        .when(product.str.contains(_CONTROL))
        .then(pl.lit("the product id has control characters or line ends"))
        .when(product.str.len_chars() > MOST_CHARS)
        .then(pl.lit(f"the product id has more than {MOST_CHARS} characters"))
    )
