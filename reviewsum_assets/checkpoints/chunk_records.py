"""The chunk summaries behind a checkpoint's summaries: kept to explain them, read by nobody else.

They lie in a Parquet file beside the manifest, which names its hash. Chunks of reviews are not
repeated there: the words of a product's text, in their order, make them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

_SCHEMA = pl.Schema(
    {
        "product_id": pl.String,
        "level": pl.Int16,
        "parts": pl.Int32,
        "tokens_in": pl.Int32,
        "tokens_out": pl.Int32,
        "summary": pl.String,
    }
)


class ChunkRecord(NamedTuple):
    """One chunk of a product, in its order within ``level``, and its summary.

    On level 1 a chunk is made of so many ``parts`` words of the reviews, above it of so many
    summaries of the level below. One without parts was not generated: it is the last summary of
    the level below, which was left alone. Tokens are those of the model.
    """

    product_id: str
    level: int
    parts: int
    tokens_in: int
    tokens_out: int
    summary: str


def encode_chunks(records: Iterable[ChunkRecord]) -> bytes:
    """Records as the content of a file; equal records give equal bytes."""
    buffer = io.BytesIO()
    pl.DataFrame(list(records), schema=_SCHEMA, orient="row").write_parquet(
        buffer, compression="zstd"
    )
    return buffer.getvalue()


def decode_chunks(content: bytes, product_id: str) -> list[ChunkRecord]:
    """The records of one product, in their order.

    Raises:
        ValueError: it is not such a file.
    """
    try:
        frame = pl.read_parquet(io.BytesIO(content)).filter(pl.col("product_id") == product_id)
        return [ChunkRecord(*row) for row in frame.select(_SCHEMA.names()).iter_rows()]
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"not a file of chunk summaries: {error}") from error
