"""Parquet tables of the lake, read with the expected columns or not at all.

They may have been written by others.
"""

from __future__ import annotations

import io

import polars as pl

# Polars may panic on damaged files; its panic is not an Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def parse_table(
    content: bytes, schema: pl.Schema, *, nullable: tuple[str, ...] = ()
) -> pl.DataFrame:
    """The columns of ``schema`` in its order; only ``nullable`` ones may have null values.

    Raises:
        ValueError: the table is damaged, or a column is missing, of another type, or has nulls.
    """
    try:
        table = pl.read_parquet(io.BytesIO(content))
    except (*UNREADABLE, OSError) as error:
        raise ValueError(first_line(error)) from error
    require_columns(pl.Schema({k: d for k, d in table.schema.items() if k in schema}), schema)
    holes = [name for name in schema if name not in nullable and table[name].null_count()]
    if holes:
        raise ValueError(f"some rows have no {', '.join(holes)}")
    return table.select(schema.names())


def require_columns(found: pl.Schema, schema: pl.Schema) -> None:
    """Refuse a table with other columns.

    Raises:
        ValueError: names the present and the expected columns.
    """
    if dict(found) != dict(schema):
        raise ValueError(f"it has the columns {_named(found)} instead of {_named(schema)}")


def as_parquet(frame: pl.DataFrame) -> bytes:
    """A frame as the content of a Parquet file, compressed."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def first_line(error: BaseException) -> str:
    """The message of polars without the query plan that follows."""
    return str(error).partition("\n")[0]


def _named(schema: pl.Schema) -> str:
    return ", ".join(f"{name!r}: {dtype}" for name, dtype in schema.items())
