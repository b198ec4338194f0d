"""One worker process: owns one device, leases checkpoints, summarizes and writes them.

The parent process deals the checkpoints; see ``processing``. Uploads overlap generation. When the
parent dies, the worker ends at once, so that nothing computes unobserved.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl

from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint, Recipe, data_version
from reviewsum_assets.checkpoints.validity import check_checkpoint
from reviewsum_assets.errors import CheckpointError, ReviewsumError
from reviewsum_assets.job.chunking import Chunker
from reviewsum_assets.job.engines import load_engine
from reviewsum_assets.job.model_directory import local_model_directory, read_ready_model
from reviewsum_assets.job.progress import peak_memory_bytes
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.summarizer import (
    CheckpointInput,
    CheckpointSummaries,
    ProductInput,
    Summarizer,
)
from reviewsum_assets.job.tokenization import ChunkTokenizer
from reviewsum_assets.job.writer import write_checkpoint
from reviewsum_assets.lake import Lake

_log = logging.getLogger("reviewsum.job")


@dataclass(frozen=True)
class WorkerOptions:
    """What one worker is given at its start. ``gpu`` is an index, None the CPU."""

    spec: JobSpec
    gpu: int | None
    threads: int
    instance_type: str


@dataclass(frozen=True)
class Lease:
    """Parent to worker: compute these, all of one recipe. Empty: there is no more, end."""

    checkpoints: tuple[PlannedCheckpoint, ...]


@dataclass(frozen=True)
class Idle:
    """Worker to parent: ready for a lease."""


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


Report = Idle | Generated | Landed | Skipped | Failed | Broken


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
    # Before torch is loaded, so that this process sees its one device only.
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if options.gpu is None else str(options.gpu)
    reports = _Reports(connection)
    try:
        worker = _Worker(options, reports)
        reports.send(Idle())
        while leased := connection.recv().checkpoints:
            worker.compute(leased)
            reports.send(Idle())
        worker.finish_writing()
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


class _Worker:
    """The state of a worker: its lake, its loaded model, its writer thread."""

    def __init__(self, options: WorkerOptions, reports: _Reports) -> None:
        self._options = options
        self._reports = reports
        self._lake = Lake.open(options.spec.lake)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._model: _LoadedModel | None = None

    def compute(self, leased: tuple[PlannedCheckpoint, ...]) -> None:
        """Summarize a lease; each checkpoint is handed to the writer as it completes."""
        leased_at = time.monotonic()
        model = self._model_for(self._options.spec.recipes[leased[0].recipe])
        inputs = list(self._inputs(leased, model.recipe))
        for summaries in model.summarizer.summarize(inputs):
            self._writer.submit(self._write, summaries, model, leased_at)

    def finish_writing(self) -> None:
        """Wait for the last uploads."""
        self._writer.shutdown(wait=True)

    def _model_for(self, recipe: Recipe) -> _LoadedModel:
        if self._model is None or self._model.recipe != recipe:
            self._model = _LoadedModel.load(self._lake, recipe, self._options, self._reports)
        return self._model

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

    def _write(self, summaries: CheckpointSummaries, model: _LoadedModel, leased_at: float) -> None:
        number = summaries.planned.number
        try:
            manifest = write_checkpoint(
                self._lake,
                summaries,
                model.producer,
                load_seconds=model.load_seconds,
                leased_at=leased_at,
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
                f"{summaries.planned.partition_key} landed: {len(manifest.products)} products"
                f"{lost}, {manifest.chunks} chunks, {manifest.seconds:.1f} s",
                manifest.worker_seconds + manifest.timings.write,
            )
        )


@dataclass(frozen=True)
class _LoadedModel:
    """A model in memory, made ready for one recipe."""

    recipe: Recipe
    summarizer: Summarizer
    producer: Producer
    load_seconds: float

    @classmethod
    def load(
        cls, lake: Lake, recipe: Recipe, options: WorkerOptions, reports: _Reports
    ) -> _LoadedModel:
        started = time.monotonic()
        ready = read_ready_model(lake, recipe.model_version)
        provided = options.spec.provided
        directory = local_model_directory(
            lake,
            recipe.model_version,
            _model_cache(),
            None if provided is None else Path(provided.model),
        )
        settings, engine_settings = recipe.settings, options.spec.engine
        tokenizer = ChunkTokenizer.load(directory, ready.prefix, settings.encoder_tokens)
        engine = load_engine(
            engine_settings.engine,
            directory,
            settings,
            device="cpu" if options.gpu is None else "cuda",
            dtype=engine_settings.dtype,
            threads=options.threads,
        )

        def on_generated(number: int, chunks: int, share: float) -> None:
            reports.send(Generated(number, chunks, share, peak_memory_bytes()))

        info = engine.describe()
        return cls(
            recipe,
            Summarizer(
                engine,
                tokenizer,
                Chunker(tokenizer, settings),
                engine_settings.tokens_per_batch(
                    settings.chunk_tokens, on_gpu=options.gpu is not None
                ),
                on_generated,
            ),
            Producer(
                job_name=options.spec.name,
                host=socket.gethostname(),
                instance_type=options.instance_type,
                engine=info.name,
                device=info.device,
                dtype=info.dtype,
                model_version=recipe.model_version,
                package_versions={
                    "reviewsum_assets": options.spec.package_version,
                    **info.versions,
                },
            ),
            time.monotonic() - started,
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
    copy = None if copies is None else copies / planned.input_key
    has_copy = copy is not None and copy.exists()
    content = copy.read_bytes() if copy is not None and has_copy else lake.get(planned.input_key)
    if content is None:
        raise CheckpointError(
            f"its grouped reviews {lake.uri_of(planned.input_key)} are missing: restore them, or "
            "remove the plan's later documents and plan again"
        )
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except pl.exceptions.PolarsError as error:
        raise CheckpointError(
            f"its grouped reviews {lake.uri_of(planned.input_key)} cannot be read: {error}"
        ) from error
    products = tuple(
        ProductInput(product_id, text, review_count, input_hash)
        for product_id, text, review_count, input_hash in frame.select(
            "product_id", "all_reviews", "review_count", "input_hash"
        ).iter_rows()
    )
    changed = [p.product_id for p in products if recipe.input_hash(p.text) != p.input_hash]
    found = data_version((p.product_id, p.input_hash) for p in products)
    if changed or found != planned.data_version:
        named = f" (products {', '.join(changed[:5])})" if changed else ""
        raise CheckpointError(
            f"its grouped reviews {lake.uri_of(planned.input_key)} are not those planned{named}"
        )
    return CheckpointInput(planned, products)


def _model_cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "reviewsum", "models")
