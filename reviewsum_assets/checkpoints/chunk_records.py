"""The chunk summaries behind a checkpoint's summaries: kept to explain them, and not needed else.

They lie in a Parquet file of their own, whose hash the manifest names. The text of the reviews'
chunks is not repeated there: it is the words of the reviews, in their order.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from reviewsum_assets import places
from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.manifests import read_manifests
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.lake import Lake

CHUNK_SCHEMA = pl.Schema(
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


def chunk_table(records: Iterable[ChunkRecord]) -> pl.DataFrame:
    """Records in ``CHUNK_SCHEMA``."""
    return pl.DataFrame(list(records), schema=CHUNK_SCHEMA, orient="row")


def read_chunks(lake: Lake, manifest: Manifest) -> pl.DataFrame | None:
    """The chunk summaries of a checkpoint in ``CHUNK_SCHEMA``.

    None if none were kept, or the file is missing or damaged.
    """
    key = _key_of(manifest)
    content = None if key is None else lake.get(key)
    if content is None or hashlib.sha256(content).hexdigest() != manifest.chunks_sha256:
        return None
    return pl.read_parquet(io.BytesIO(content))


def damaged_chunks(lake: Lake, plan: Plan) -> dict[int, str]:
    """Keys of the files that are missing or damaged, by checkpoint; reads them all.

    Sound beside a job that computes a checkpoint again: its file has another key, and is written
    before the manifest that names it.
    """
    written = {
        key: (manifest.checkpoint, manifest.chunks_sha256)
        for manifest in read_manifests(lake, plan.checkpoints)
        if (key := _key_of(manifest)) is not None
    }
    damaged = {}
    for key, content in lake.contents(written):
        number, sha256 = written[key]
        if content is None or hashlib.sha256(content).hexdigest() != sha256:
            damaged[number] = key
    return damaged


def _key_of(manifest: Manifest) -> str | None:
    if manifest.chunks_sha256 is None:
        return None
    return places.checkpoint_chunks(manifest.checkpoint, manifest.chunks_sha256)
