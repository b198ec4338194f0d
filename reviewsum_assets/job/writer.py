"""Writes a finished checkpoint: what explains it, its CSV, then the manifest that commits it."""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import datetime, timezone

from reviewsum_assets.checkpoints.manifest import (
    Manifest,
    Producer,
    Timings,
    chunk_table,
    encode_rows,
)
from reviewsum_assets.errors import LakeError
from reviewsum_assets.job.summarizer import CheckpointSummaries
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import as_parquet

# On top of the store's own retries of single requests.
_ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 0.5

_log = logging.getLogger("reviewsum.job")


def write_checkpoint(
    lake: Lake,
    summaries: CheckpointSummaries,
    producer: Producer,
    *,
    load_seconds: float,
    started_at: float,
    seconds_per_chunk: float | None = None,
) -> Manifest:
    """Write a checkpoint's chunk summaries, if it has any, its CSV, then its manifest.

    Args:
        lake: where to.
        summaries: what was computed.
        producer: what computed it, for the record.
        load_seconds: what loading the model took.
        started_at: ``time.monotonic()`` when work on the checkpoint began.
        seconds_per_chunk: what a worker was expected to need, for the record.

    Raises:
        LakeError: a write failed on every attempt; the checkpoint is then not committed.
    """
    number = summaries.planned.number
    chunks = sum(product.chunks for product in summaries.products)
    content = encode_rows(summaries.rows)
    chunks_sha256 = None
    started = time.monotonic()
    if summaries.chunks:
        chunks_file = as_parquet(chunk_table(summaries.chunks))
        chunks_sha256 = hashlib.sha256(chunks_file).hexdigest()
        _put(lake, places.checkpoint_chunks(number, chunks_sha256), chunks_file)
    _put(lake, places.checkpoint_csv(number), content)
    written = time.monotonic()
    manifest = Manifest(
        plan_id=summaries.planned.plan_id,
        checkpoint=number,
        data_version=summaries.planned.data_version,
        csv_sha256=hashlib.sha256(content).hexdigest(),
        csv_bytes=len(content),
        products=summaries.products,
        quarantined=summaries.quarantined,
        reviews=summaries.reviews,
        producer=producer,
        timings=Timings(
            load=load_seconds,
            read=summaries.seconds.read,
            tokenize=summaries.seconds.tokenize,
            generate=summaries.seconds.generate,
            assemble=summaries.seconds.assemble,
            write=written - started,
        ),
        seconds=written - started_at,
        predicted_seconds=None if seconds_per_chunk is None else chunks * seconds_per_chunk,
        finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        chunks_sha256=chunks_sha256,
    )
    _put(lake, places.checkpoint_manifest(number), manifest.sealed())
    return manifest


def _put(lake: Lake, key: str, content: bytes) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            lake.put(key, content)
        except LakeError as error:
            if attempt == _ATTEMPTS:
                raise
            _log.warning("attempt %d of %d failed: %s", attempt, _ATTEMPTS, error)
            time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        else:
            return
