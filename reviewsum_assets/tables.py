"""Reads a Parquet table of the lake: whole and with the columns it is meant to have, or not."""

from __future__ import annotations

import io

import polars as pl

# Damaged files make polars panic now and then, which is no Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def parse_table(content: bytes, schema: pl.Schema) -> pl.DataFrame:
    """The table, its columns in the order of ``schema``.

    Raises:
        ValueError: it is damaged, or has other columns; says so in one sentence.
    """
    try:
        table = pl.read_parquet(io.BytesIO(content))
    except UNREADABLE as error:
        raise ValueError(first_line(error)) from error
    require_columns(table.schema, schema)
    return table.select(schema.names())


def require_columns(found: pl.Schema, schema: pl.Schema) -> None:
    """Refuse a table with other columns.

    Raises:
        ValueError: what it has and what it should have.
    """
    if dict(found) != dict(schema):
        raise ValueError(f"it has the columns {_named(found)} instead of {_named(schema)}")


def first_line(error: BaseException) -> str:
    """What polars says, without the query that follows."""
    return str(error).partition("\n")[0]


def _named(schema: pl.Schema) -> str:
    return ", ".join(f"{name!r}: {dtype}" for name, dtype in schema.items())
