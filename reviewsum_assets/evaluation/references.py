"""Human summaries that others are held against: a CSV with one row a product."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation.rouge import words_of
from reviewsum_assets.tables import UNREADABLE, first_line

_ID = "product_id"
_PREFIX = "reference"

References = Mapping[str, tuple[str, ...]]


def read_references(path: Path) -> References:
    """The human summaries of each product; several a product are several opinions of equal worth.

    The columns are ``product_id`` and one or more that begin with ``reference``; others, and empty
    cells, are passed over.

    Raises:
        EvaluationError: the file cannot be read, has other columns, names a product twice or not
            at all, or gives one no summary with a word in it.
    """
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (OSError, *UNREADABLE) as error:
        raise EvaluationError(
            f"references {path} cannot be read as CSV: {first_line(error)}"
        ) from error
    columns = [name for name in table.columns if name.startswith(_PREFIX)]
    if _ID not in table.columns or not columns:
        raise EvaluationError(
            f"references {path} have the columns {', '.join(table.columns)}: expected product_id "
            "and reference_1, reference_2, ... with one human summary each"
        )
    found: dict[str, tuple[str, ...]] = {}
    for product_id, *texts in table.select(_ID, *columns).iter_rows():
        if not product_id or product_id in found:
            trouble = "is there twice" if product_id else "has no product_id"
            raise EvaluationError(
                f"references {path}: product {product_id or 'in a row'} {trouble}"
            )
        # ROUGE's words are of a to z and digits: what has none would score zero, whatever it says.
        found[product_id] = tuple(text for text in texts if text and words_of(text))
        if not found[product_id]:
            raise EvaluationError(
                f"references {path}: product {product_id} has no summary in Latin letters, which "
                "are all that ROUGE reads"
            )
    if not found:
        raise EvaluationError(f"references {path} have no row")
    return found
