"""Reads Parquet objects of the lake, which anybody who can write there may have written."""

from __future__ import annotations

import io

import polars as pl


def read_frame(
    content: bytes, schema: pl.Schema, *, nullable: tuple[str, ...] = ()
) -> pl.DataFrame:
    """The columns of ``schema``, in its order.

    Args:
        content: of the object.
        schema: names and types of the columns that are needed.
        nullable: those of them that may have no value in some rows.

    Raises:
        ValueError: it is not Parquet, lacks a column, or one is of another type or has holes.
    """
    try:
        found = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"it is not Parquet ({error})") from error
    if not schema.items() <= found.schema.items():
        raise ValueError(f"its columns are {_named(found.schema)} and not {_named(schema)}")
    frame = found.select(schema.names())
    holes = [name for name in schema.names() if name not in nullable and frame[name].null_count()]
    if holes:
        raise ValueError(f"some rows have no {', '.join(holes)}")
    return frame


def _named(schema: pl.Schema) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in schema.items()) or "none"
