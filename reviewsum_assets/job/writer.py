"""Writes a finished checkpoint: its chunk summaries, its CSV, then the manifest that commits it."""

from __future__ import annotations

import hashlib
import time
from datetime import datetime, timezone

from reviewsum_assets.checkpoints.manifest import Manifest, Producer, chunk_table, encode_rows
from reviewsum_assets.job.summarizer import CheckpointSummaries
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import as_parquet


def write_checkpoint(
    lake: Lake,
    summaries: CheckpointSummaries,
    producer: Producer,
    *,
    load_seconds: float,
    started_at: float,
    seconds_per_chunk: float | None = None,
) -> Manifest:
    """Write a checkpoint; the lake's store retries requests that fail.

    ``load_seconds`` are the model's. Work on the checkpoint began at ``started_at`` of
    ``time.monotonic()``. One worker was expected to need ``seconds_per_chunk``.

    Raises:
        LakeError: An object cannot be written; the checkpoint is not committed.
    """
    planned = summaries.planned
    chunks = sum(product.chunks for product in summaries.products)
    content = encode_rows(summaries.rows)
    chunks_sha256 = None
    started = time.monotonic()
    if summaries.chunks:
        chunks_file = as_parquet(chunk_table(summaries.chunks))
        chunks_sha256 = hashlib.sha256(chunks_file).hexdigest()
        lake.put(places.checkpoint_chunks(planned.number, chunks_sha256), chunks_file)
    lake.put(places.checkpoint_csv(planned.number), content)
    written = time.monotonic()
    manifest = Manifest(
        plan_id=planned.plan_id,
        checkpoint=planned.number,
        data_version=planned.data_version,
        csv_sha256=hashlib.sha256(content).hexdigest(),
        csv_bytes=len(content),
        products=summaries.products,
        quarantined=summaries.quarantined,
        reviews=summaries.reviews,
        producer=producer,
        timings=summaries.timings.model_copy(
            update={"load": load_seconds, "write": written - started}
        ),
        seconds=written - started_at,
        predicted_seconds=None if seconds_per_chunk is None else chunks * seconds_per_chunk,
        finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        chunks_sha256=chunks_sha256,
    )
    lake.put(places.checkpoint_manifest(planned.number), manifest.sealed())
    return manifest
