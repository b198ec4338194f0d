"""A worker process: owns one device, leases checkpoints, summarizes and writes them.

The parent process deals the checkpoints; see ``processing``. When the parent dies, the worker ends
at once, so that nothing computes unobserved.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl

from reviewsum_assets.checkpoints.plan import (
    INPUT_NULLABLE,
    INPUT_SCHEMA,
    PlannedCheckpoint,
    Recipe,
    data_version,
)
from reviewsum_assets.checkpoints.validity import check_checkpoint
from reviewsum_assets.errors import CheckpointError, ReviewsumError, first_names
from reviewsum_assets.job.devices import hide_other_devices
from reviewsum_assets.job.models.loaded import LoadedModel, RecipeReader, WorkerOptions
from reviewsum_assets.job.progress import peak_memory_bytes
from reviewsum_assets.job.summarizer import (
    CheckpointInput,
    ChunkedCheckpoint,
    ProductInput,
    chunk_checkpoint,
)
from reviewsum_assets.job.writer import write_checkpoint
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import parse_table

_log = logging.getLogger("reviewsum.job")


@dataclass(frozen=True)
class Lease:
    """Parent to worker: compute these, all of one recipe. Empty: there is no more, end."""

    checkpoints: tuple[PlannedCheckpoint, ...]


@dataclass(frozen=True)
class Idle:
    """Worker to parent: ready for a lease."""


@dataclass(frozen=True)
class Generating:
    """Worker to parent: these checkpoints of a lease are generated from now on."""

    numbers: frozenset[int]


@dataclass(frozen=True)
class Generated:
    """Worker to parent: chunks were generated; see ``ProgressReporter.generated``."""

    number: int
    chunks: int
    share: float
    memory_bytes: int


@dataclass(frozen=True)
class Landed:
    """Worker to parent: a manifest was written; ``seconds`` of work went into it."""

    number: int
    message: str
    seconds: float


@dataclass(frozen=True)
class Skipped:
    """Worker to parent: a checkpoint was valid already when its turn came."""

    number: int


@dataclass(frozen=True)
class Failed:
    """Worker to parent: a checkpoint did not land, and trying again would not help."""

    number: int
    reason: str


@dataclass(frozen=True)
class Broken:
    """Worker to parent: this worker cannot go on; what it still has leased may be tried again."""

    reason: str


Report = Idle | Generating | Generated | Landed | Skipped | Failed | Broken


class _Reports:
    """Sends reports from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, report: Report) -> None:
        with self._lock:
            self._connection.send(report)


def worker_main(connection: Connection, options: WorkerOptions) -> None:
    """Run one worker until its parent has no more work; the target of a spawned process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches the parent too, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hide_other_devices(options.device)
    reports = _Reports(connection)
    try:
        _Worker(options, connection, reports).work()
    except ReviewsumError as error:
        reports.send(Broken(str(error)))
    except Exception as error:
        # The parent decides what to do; the log keeps where it happened.
        _log.exception("worker failed")
        reports.send(Broken(f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass(frozen=True)
class _Pool:
    """A lease that is read and cut, ready to be generated."""

    reader: RecipeReader
    works: list[ChunkedCheckpoint]


class _Worker:
    """Three threads in a row: one reads and cuts leases, the main one generates, one writes.

    So the device waits for its own work, and for a lake that is slower than it: of what is
    generated and not yet written, which dies with the process, there is one lease beside the next.
    """

    def __init__(self, options: WorkerOptions, connection: Connection, reports: _Reports) -> None:
        self._options = options
        self._connection = connection
        self._reports = reports
        self._lake = Lake.open(options.spec.lake)
        self._pools: queue.Queue[_Pool | Exception | None] = queue.Queue()
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
                model = self._model_for(pool.reader)
                self._reports.send(
                    Generating(frozenset(work.source.planned.number for work in pool.works))
                )
                started, earlier = time.monotonic(), writing
                writing = [
                    writer.submit(self._write, work, model, started)
                    for work in model.summarizer.generate(pool.works)
                ]
                self._slots.release()
                wait(earlier)

    def _read_leases(self) -> None:
        try:
            while True:
                self._slots.acquire()
                self._reports.send(Idle())
                leased = self._connection.recv().checkpoints
                if not leased:
                    self._pools.put(None)
                    return
                reader = self._reader_for(self._options.spec.recipes[leased[0].recipe])
                works = [
                    chunk_checkpoint(source, reader.chunker)
                    for source in self._inputs(leased, reader.recipe)
                ]
                self._pools.put(_Pool(reader, works))
        except Exception as error:
            self._pools.put(error)

    def _reader_for(self, recipe: Recipe) -> RecipeReader:
        if self._reader is None or self._reader.recipe != recipe:
            self._reader = RecipeReader.load(self._lake, recipe, self._options.spec)
        return self._reader

    def _model_for(self, reader: RecipeReader) -> LoadedModel:
        if self._model is None or self._model.recipe != reader.recipe:
            self._model = None  # two models at a time may not fit
            self._model = LoadedModel.load(self._lake, reader, self._options, self._on_generated)
        return self._model

    def _on_generated(self, number: int, chunks: int, share: float) -> None:
        self._reports.send(Generated(number, chunks, share, peak_memory_bytes()))

    def _inputs(
        self, leased: tuple[PlannedCheckpoint, ...], recipe: Recipe
    ) -> Iterator[CheckpointInput]:
        provided = self._options.spec.provided
        copies = None if provided is None else Path(provided.grouped_reviews)
        for planned in leased:
            try:
                # Perhaps another job, over other checkpoints, has come by meanwhile.
                if not self._options.spec.recompute and self._is_valid(planned):
                    self._reports.send(Skipped(planned.number))
                else:
                    yield read_input(self._lake, planned, recipe, copies)
            except ReviewsumError as error:
                self._reports.send(Failed(planned.number, str(error)))

    def _is_valid(self, planned: PlannedCheckpoint) -> bool:
        return check_checkpoint(self._lake, planned).is_valid

    def _write(self, work: ChunkedCheckpoint, model: LoadedModel, generated_from: float) -> None:
        number = work.source.planned.number
        before = work.source.read_seconds + work.tokenize_seconds
        try:
            summaries = model.summarizer.assemble(work)
            manifest = write_checkpoint(
                self._lake,
                summaries,
                model.producer,
                load_seconds=model.load_seconds,
                started_at=generated_from - before,
                seconds_per_chunk=self._options.spec.seconds_per_chunk,
            )
        except ReviewsumError as error:
            self._reports.send(Failed(number, str(error)))
            return
        except Exception as error:
            # Nothing waits for this thread: what it does not report would never be known.
            _log.exception("checkpoint %d cannot be written", number)
            self._reports.send(Failed(number, f"{type(error).__name__}: {error}"))
            return
        lost = f", {len(manifest.quarantined)} quarantined" if manifest.quarantined else ""
        self._reports.send(
            Landed(
                number,
                f"{work.source.planned.partition_key} landed: {len(manifest.products)} products"
                f"{lost}, {manifest.chunks} chunks, {manifest.seconds:.1f} s",
                manifest.worker_seconds + manifest.timings.write,
            )
        )


def read_input(
    lake: Lake, planned: PlannedCheckpoint, recipe: Recipe, copies: Path | None = None
) -> CheckpointInput:
    """The grouped reviews of one checkpoint, proven to be the planned ones.

    Args:
        lake: holds them.
        planned: the checkpoint.
        recipe: what its input hashes were made with.
        copies: a directory that may hold a copy, which spares reading from the lake.

    Raises:
        CheckpointError: they are missing, or not those that were planned.
    """
    started = time.monotonic()
    copy = None if copies is None else _copy_in(copies, lake, planned.input_key)
    content = lake.get(planned.input_key) if copy is None else copy.read_bytes()
    if content is None:
        raise CheckpointError(
            f"its grouped reviews {lake.uri_of(planned.input_key)} are missing: materialize "
            "checkpoint_plan, or use `reviewsum run`, to plan its products again"
        )
    try:
        frame = parse_table(content, INPUT_SCHEMA, nullable=INPUT_NULLABLE)
    except ValueError as error:
        raise CheckpointError(
            f"its grouped reviews {lake.uri_of(planned.input_key)} cannot be read: {error}"
        ) from error
    products = tuple(
        ProductInput(*row)
        for row in frame.select(
            *("product_id", "all_reviews", "review_count", "input_hash", "reviews_read"),
            pl.col("cut_reviews").list.len().alias("reviews_cut"),
        ).iter_rows()
    )
    changed = [p.product_id for p in products if recipe.input_hash(p.text) != p.input_hash]
    found = data_version((p.product_id, p.input_hash) for p in products)
    if changed or found != planned.data_version:
        named = f" (products {first_names(changed)})" if changed else ""
        raise CheckpointError(
            f"its grouped reviews {lake.uri_of(planned.input_key)} are not those planned{named}: "
            "remove them, then plan again"
        )
    return CheckpointInput(planned, products, time.monotonic() - started)


def _copy_in(copies: Path, lake: Lake, key: str) -> Path | None:
    """The copy of an object below a directory, if there is one.

    Of the objects that a manifest file names, SageMaker lays each at its path below the manifest's
    prefix, or at its whole key: both have been seen, and neither is documented for Processing.
    """
    prefix = lake.uri.partition("://")[2].partition("/")[2]
    for candidate in (copies / key, copies / prefix / key):
        if candidate.exists():
            return candidate
    return None
