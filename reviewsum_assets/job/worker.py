"""A worker process: owns one device, leases checkpoints, summarizes and writes them.

The parent process deals the checkpoints, see ``parent``. If the parent dies, the worker ends
immediately, so that no process computes unobserved.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import polars as pl

from reviewsum_assets.checkpoints.manifest import Manifest, Producer, chunk_table, encode_rows
from reviewsum_assets.checkpoints.plan import (
    INPUT_NULLABLE,
    INPUT_SCHEMA,
    PlannedCheckpoint,
    Recipe,
    data_version,
)
from reviewsum_assets.checkpoints.validity import check_checkpoint
from reviewsum_assets.errors import (
    CheckpointError,
    ReviewsumError,
    UnfitModelError,
    first_names,
)
from reviewsum_assets.job.dealer import Outcome
from reviewsum_assets.job.devices import hide_other_devices
from reviewsum_assets.job.models.loaded import LoadedModel, RecipeReader, WorkerOptions
from reviewsum_assets.job.progress import peak_memory_bytes
from reviewsum_assets.job.summarizer import (
    CheckpointInput,
    CheckpointSummaries,
    ChunkedCheckpoint,
    ProductInput,
    chunk_checkpoint,
)
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import as_parquet, parse_table

_log = logging.getLogger("reviewsum.job")

# Parent to worker: compute these checkpoints of one recipe. Empty: there are no more, end.
Lease = tuple[PlannedCheckpoint, ...]


class Idle(NamedTuple):
    """Worker to parent: ready for a lease."""


class Generating(NamedTuple):
    """Worker to parent: generation of these checkpoints begins."""

    numbers: frozenset[int]


class Generated(NamedTuple):
    """Worker to parent: chunks were generated; see ``ProgressReporter.generated``."""

    number: int
    chunks: int
    share: float
    memory_bytes: int


class Finished(NamedTuple):
    """Worker to parent: the end of a checkpoint; see ``Dealer.finish``."""

    number: int
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0


class Broken(NamedTuple):
    """Worker to parent: this worker cannot continue; another may, unless that ``is_final``."""

    reason: str
    is_final: bool = False


Report = Idle | Generating | Generated | Finished | Broken


def worker_main(connection: Connection, options: WorkerOptions) -> None:
    """Run one worker until its parent has no more work; the target of a spawned process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches the parent too, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hide_other_devices(options.device)
    lock = threading.Lock()  # three threads send

    def send(report: Report) -> None:
        with lock:
            connection.send(report)

    try:
        _Worker(options, connection, send).work()
    except Exception as error:
        # Parts of a model that do not fit each other do not fit in another process either.
        send(Broken(_reason(error, "worker failed"), isinstance(error, UnfitModelError)))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _reason(error: Exception, event: str) -> str:
    """Return the reason for a report; the log keeps the traceback of an unexpected error."""
    if isinstance(error, ReviewsumError):
        return str(error)
    _log.error(event, exc_info=error)
    return f"{type(error).__name__}: {error}"


class _Worker:
    """Three threads in a row: one reads and cuts leases, the main one generates, one writes.

    The device waits for a lake that is slower than it: at most one lease is generated and not yet
    written while the next is generated, since unwritten summaries are lost with the process.
    """

    def __init__(
        self, options: WorkerOptions, connection: Connection, send: Callable[[Report], None]
    ) -> None:
        self._options = options
        self._connection = connection
        self._send = send
        self._lake = Lake.open(options.spec.lake)
        # Leases that are read and cut; an exception ends the worker, None is the regular end.
        self._pools: queue.Queue[
            tuple[RecipeReader, list[ChunkedCheckpoint]] | Exception | None
        ] = queue.Queue()
        self._slots = threading.Semaphore(options.device.leases)
        self._reader: RecipeReader | None = None
        self._model: LoadedModel | None = None

    def work(self) -> None:
        """Compute leases until an empty one comes, and wait for the last uploads."""
        threading.Thread(target=self._read_leases, name="reader", daemon=True).start()
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
            writing: list[Future[None]] = []
            while (pool := self._pools.get()) is not None:
                if isinstance(pool, Exception):
                    raise pool
                reader, works = pool
                model = self._model_for(reader)
                self._send(Generating(frozenset(work.source.planned.number for work in works)))
                started, earlier = time.monotonic(), writing
                writing = [
                    writer.submit(self._write, work, model, started)
                    for work in model.summarizer.generate(works)
                ]
                self._slots.release()
                wait(earlier)

    def _read_leases(self) -> None:
        try:
            while True:
                self._slots.acquire()
                self._send(Idle())
                leased: Lease = self._connection.recv()
                if not leased:
                    self._pools.put(None)
                    return
                recipe = self._options.spec.recipes[leased[0].recipe]
                if self._reader is None or self._reader.recipe != recipe:
                    self._reader = RecipeReader.load(self._lake, recipe, self._options.spec)
                chunker = self._reader.chunker
                works = [chunk_checkpoint(one, chunker) for one in self._inputs(leased, recipe)]
                self._pools.put((self._reader, works))
        except Exception as error:
            self._pools.put(error)

    def _model_for(self, reader: RecipeReader) -> LoadedModel:
        def report(number: int, chunks: int, share: float) -> None:
            self._send(Generated(number, chunks, share, peak_memory_bytes()))

        if self._model is None or self._model.recipe != reader.recipe:
            self._model = None  # two models at a time may not fit
            self._model = LoadedModel.load(self._lake, reader, self._options, report)
        return self._model

    def _inputs(self, leased: Lease, recipe: Recipe) -> Iterator[CheckpointInput]:
        spec = self._options.spec
        copies = None if spec.provided is None else Path(spec.provided.grouped_reviews)
        for planned in leased:
            try:
                # Another job, over other checkpoints, may have written it meanwhile.
                if not spec.recompute and check_checkpoint(self._lake, planned).is_valid:
                    self._send(Finished(planned.number, "valid"))
                else:
                    yield read_input(self._lake, planned, recipe, copies)
            except ReviewsumError as error:
                self._send(Finished(planned.number, "failed", str(error)))

    def _write(self, work: ChunkedCheckpoint, model: LoadedModel, generated_from: float) -> None:
        planned = work.source.planned
        try:
            manifest = write_checkpoint(
                self._lake,
                model.summarizer.assemble(work),
                model.producer,
                load_seconds=model.load_seconds,
                started_at=generated_from - work.source.read_seconds - work.tokenize_seconds,
                seconds_per_chunk=self._options.spec.seconds_per_chunk,
            )
        except Exception as error:  # unreported, it would be lost with this thread
            reason = _reason(error, f"checkpoint {planned.number} cannot be written")
            self._send(Finished(planned.number, "failed", reason))
            return
        lost = f", {len(manifest.quarantined)} quarantined" if manifest.quarantined else ""
        self._send(
            Finished(
                planned.number,
                "landed",
                f"{planned.partition_key} landed: {len(manifest.products)} products{lost}, "
                f"{manifest.totals.chunks} chunks, {manifest.seconds:.1f} s",
                manifest.worker_seconds + manifest.timings.write,
            )
        )


def read_input(
    lake: Lake, planned: PlannedCheckpoint, recipe: Recipe, copies: Path | None = None
) -> CheckpointInput:
    """Read the grouped reviews of one checkpoint, and verify that they are the planned ones.

    ``copies`` is a directory that may hold a copy, which saves reading from the lake.

    Raises:
        CheckpointError: They are missing, or not those that were planned.
    """
    started = time.monotonic()
    copy = None if copies is None else _copy_in(copies, lake, planned.input_key)
    content = lake.get(planned.input_key) if copy is None else copy.read_bytes()
    named = f"its grouped reviews {lake.uri_of(planned.input_key)}"
    if content is None:
        raise CheckpointError(
            f"{named} are missing: materialize checkpoint_plan, or use `reviewsum run`, to plan "
            "its products again"
        )
    try:
        frame = parse_table(content, INPUT_SCHEMA, nullable=INPUT_NULLABLE)
    except ValueError as error:
        raise CheckpointError(f"{named} cannot be read: {error}") from error
    columns = frame.select(
        *("product_id", "all_reviews", "review_count", "input_hash", "reviews_read"),
        pl.col("cut_reviews").list.len().alias("reviews_cut"),
    )
    products = tuple(ProductInput(*row) for row in columns.iter_rows())
    changed = [p.product_id for p in products if recipe.input_hash(p.text) != p.input_hash]
    found = data_version((p.product_id, p.input_hash) for p in products)
    if changed or found != planned.data_version:
        which = f" (products {first_names(changed)})" if changed else ""
        raise CheckpointError(f"{named} are not those planned{which}: remove them, then plan again")
    return CheckpointInput(planned, products, time.monotonic() - started)


def _copy_in(copies: Path, lake: Lake, key: str) -> Path | None:
    """Return the copy of an object below a directory, if there is one.

    SageMaker puts each object of a manifest file at its path below the manifest's prefix, or at its
    whole key: both have been seen, and neither is documented for Processing.
    """
    prefix = lake.uri.partition("://")[2].partition("/")[2]
    found = (path for path in (copies / key, copies / prefix / key) if path.exists())
    return next(found, None)


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
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        chunks_sha256=chunks_sha256,
    )
    lake.put(places.checkpoint_manifest(planned.number), manifest.sealed())
    return manifest
