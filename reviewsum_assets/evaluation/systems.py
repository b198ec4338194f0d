"""The summaries to be judged: of a lake's merged table, or of any table with the same columns."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from reviewsum_assets.checkpoints.merge import merged_slices
from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation.candidates import Candidate
from reviewsum_assets.lake import Lake
from reviewsum_assets.tables import UNREADABLE, first_line

_COLUMNS = ("product_id", "abstracted_summary")
_ROWS_A_SLICE = 50_000


def system_of_lake(name: str, lake: Lake, products: Collection[str]) -> Candidate:
    """What a lake's merged table says of these products.

    Raises:
        CheckpointError: nothing was merged there.
    """
    slices = merged_slices(lake, _ROWS_A_SLICE)
    rows = pl.concat(_chosen(rows.select(_COLUMNS), products) for rows in slices)
    return _system(name, rows, lake.uri)


def system_of_table(name: str, path: Path, products: Collection[str]) -> Candidate:
    """What a CSV or Parquet file says of these products.

    Raises:
        EvaluationError: it cannot be read, has other columns, or a product in two rows.
    """
    is_parquet = path.suffix == ".parquet"
    try:
        table = pl.read_parquet(path) if is_parquet else pl.read_csv(path, infer_schema=False)
    except (OSError, *UNREADABLE) as error:
        raise EvaluationError(f"table {path} cannot be read: {first_line(error)}") from error
    if not set(_COLUMNS) <= set(table.columns):
        raise EvaluationError(
            f"table {path} has the columns {', '.join(table.columns)}: expected product_id and "
            "abstracted_summary, as in merged_summaries.csv"
        )
    return _system(name, _chosen(table.select(_COLUMNS), products), str(path))


def _chosen(table: pl.DataFrame, products: Collection[str]) -> pl.DataFrame:
    return table.filter(pl.col("product_id").is_in(list(products)))


def _system(name: str, rows: pl.DataFrame, source: str) -> Candidate:
    repeated = rows.filter(pl.col("product_id").is_duplicated())
    if not repeated.is_empty():
        raise EvaluationError(f"{source} has product {repeated['product_id'][0]} in several rows")
    texts = {product_id: (summary or "",) for product_id, summary in rows.iter_rows()}
    return Candidate(name, "summaries", texts, source)
