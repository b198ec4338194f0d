"""Parquet tables of the lake: read whole, with the columns they are meant to have, or not at all.

Anybody who can write to the lake can have written them.
"""

from __future__ import annotations

import io

import polars as pl

# Damaged files make polars panic now and then, which is no Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def parse_table(
    content: bytes, schema: pl.Schema, *, nullable: tuple[str, ...] = ()
) -> pl.DataFrame:
    """The columns of ``schema``, in its order.

    Args:
        content: of the object.
        schema: names and types of the columns that are needed; others are left out.
        nullable: those of them that may have no value in some rows.

    Raises:
        ValueError: it is damaged, lacks a column, or one is of another type or has holes; says so
            in one sentence.
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
        ValueError: what it has and what it should have.
    """
    if dict(found) != dict(schema):
        raise ValueError(f"it has the columns {_named(found)} instead of {_named(schema)}")


def as_parquet(frame: pl.DataFrame) -> bytes:
    """A frame as the content of a Parquet file, compressed."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def first_line(error: BaseException) -> str:
    """What polars says, without the query that follows."""
    return str(error).partition("\n")[0]


def _named(schema: pl.Schema) -> str:
    return ", ".join(f"{name!r}: {dtype}" for name, dtype in schema.items())
