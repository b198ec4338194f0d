"""The contenders of the engine benchmark: each a few processes that summarize texts end to end.

An engine runs as in a job, with the job's own chunker, batches and assembly; nothing is remembered
from one round to the next.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from reviewsum_assets.bench.baseline import PredecessorLoop
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.job.engines import EngineName, load_engine
from reviewsum_assets.job.engines.base import Engine, EngineInfo
from reviewsum_assets.job.progress import peak_memory_bytes
from reviewsum_assets.job.summarizer import (
    CheckpointInput,
    ProductInput,
    Summarizer,
    chunk_checkpoint,
)
from reviewsum_assets.settings import SummarySettings

BASELINE = "predecessor"
_PRODUCTS_A_POOL = 100
_MB = 1e6


@dataclass(frozen=True)
class Contender:
    """How summaries are made; without an engine by the predecessor's loop.

    ``batch_tokens`` are source tokens a batch, ``dtype`` is an engine setting.
    """

    name: str
    engine: EngineName | None
    dtype: str
    processes: int
    threads: int
    batch_tokens: int


@dataclass(frozen=True)
class BenchModel:
    """A model's files as both engines read them, and how it is used on which device."""

    directory: Path
    converted: Path
    prefix: str
    settings: SummarySettings
    device: str


@dataclass(frozen=True)
class ChunkResult:
    """One chunk: its tokens as the encoder got them, its summary and the tokens of that."""

    token_ids: tuple[int, ...]
    summary: str
    tokens_out: int


@dataclass(frozen=True)
class Round:
    """One pass over some texts; seconds of the process that was last."""

    seconds: float
    chunks: tuple[ChunkResult, ...]
    peak_mb: float
    batch_tokens: int = 0  # at the end: fewer than asked for where memory ran out

    @property
    def chunks_per_s(self) -> float:
        """Chunks a second, those that were reused included."""
        return len(self.chunks) / self.seconds


class RunningContender:
    """A contender's processes, loaded; a context manager that ends them."""

    def __init__(self, contender: Contender, model: BenchModel) -> None:
        context = multiprocessing.get_context("spawn")
        self.contender = contender
        self._members = []
        for _ in range(contender.processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_member, args=(theirs, contender, model), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def __enter__(self) -> RunningContender:
        self.run(["It works."] * len(self._members))  # loads, and warms up
        return self

    def __exit__(self, *_: object) -> None:
        for process, connection in self._members:
            connection.close()
            process.kill()
            process.join()

    def run(self, texts: Sequence[str]) -> Round:
        """Summarize texts, dealt among the processes as evenly as their lengths allow.

        Raises:
            BenchmarkError: a process failed or died.
        """
        ranked = sorted(texts, key=len, reverse=True)
        for number, (_, connection) in enumerate(self._members):
            connection.send(ranked[number :: len(self._members)])
        rounds = [self._answer(connection) for _, connection in self._members]
        return Round(
            seconds=max(one.seconds for one in rounds),
            chunks=tuple(chunk for one in rounds for chunk in one.chunks),
            peak_mb=sum(one.peak_mb for one in rounds),
            batch_tokens=min(one.batch_tokens for one in rounds),
        )

    def _answer(self, connection: Connection) -> Round:
        try:
            answer = connection.recv()
        except EOFError as error:
            raise BenchmarkError(
                f"a process of {self.contender.name} died; perhaps memory ran out"
            ) from error
        if isinstance(answer, str):
            raise BenchmarkError(f"{self.contender.name} failed: {answer}")
        assert isinstance(answer, Round)
        return answer


class _Loop(Protocol):
    batch_tokens: int

    def summarize(self, texts: list[str]) -> None:
        """Make the summaries; only this is timed."""

    def results(self) -> list[ChunkResult]:
        """The chunks of the last call."""


class _Predecessor:
    batch_tokens = 0

    def __init__(self, contender: Contender, model: BenchModel) -> None:
        self._loop = PredecessorLoop(
            model.directory,
            model.prefix,
            model.settings,
            device=model.device,
            threads=contender.threads,
        )
        self._chunks: list[ChunkResult] = []

    def summarize(self, texts: list[str]) -> None:
        self._chunks = [
            ChunkResult(tuple(ids), summary, tokens)
            for product in self._loop.summarize(texts)
            for ids, summary, tokens in product
        ]

    def results(self) -> list[ChunkResult]:
        return self._chunks


class _Remembering:
    """An engine that keeps what it gave, to be compared."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.given: dict[tuple[int, ...], list[int]] = {}

    def generate(self, batch: Sequence[Sequence[int]]) -> list[list[int]]:
        summaries = self._engine.generate(batch)
        self.given.update(zip(map(tuple, batch), summaries, strict=True))
        return summaries

    def describe(self) -> EngineInfo:
        return self._engine.describe()


class _JobLoop:
    def __init__(self, name: EngineName, contender: Contender, model: BenchModel) -> None:
        self._settings = model.settings
        self._asked_tokens = self.batch_tokens = contender.batch_tokens
        directory = model.converted if name == "ctranslate2" else model.directory
        self._tokenizer = ChunkTokenizer.load(
            directory, model.prefix, model.settings.encoder_tokens
        )
        self._engine = _Remembering(
            load_engine(
                name,
                directory,
                model.settings,
                device=model.device,
                dtype=contender.dtype,
                threads=contender.threads,
            )
        )
        self._cut: list[tuple[int, ...]] = []

    def summarize(self, texts: list[str]) -> None:
        self._engine.given.clear()
        self._cut.clear()
        chunker = Chunker(self._tokenizer, self._settings)
        summarizer = Summarizer(self._engine, self._tokenizer, self._asked_tokens, lambda *_: None)
        for start in range(0, len(texts), _PRODUCTS_A_POOL):
            source = _as_checkpoint(texts[start : start + _PRODUCTS_A_POOL])
            for work in summarizer.generate([chunk_checkpoint(source, chunker)]):
                self._cut += [chunk.token_ids for chunks in work.chunks for chunk in chunks]
                summarizer.assemble(work)
        self.batch_tokens = summarizer.batch_tokens

    def results(self) -> list[ChunkResult]:
        given = self._engine.given
        return [
            ChunkResult(ids, self._tokenizer.decode(given[ids]), len(given[ids]))
            for ids in self._cut
        ]


def _as_checkpoint(texts: Sequence[str]) -> CheckpointInput:
    planned = PlannedCheckpoint(
        number=1, products=len(texts), data_version="", recipe="", plan_id="", input_sha256=""
    )
    return CheckpointInput(
        planned, tuple(ProductInput(str(n), text, 1, "") for n, text in enumerate(texts))
    )


def _member(connection: Connection, contender: Contender, model: BenchModel) -> None:
    """One process: texts in, a round out, until the connection is closed."""
    # Ctrl-C reaches the parent too, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if model.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        loop: _Loop
        if contender.engine is None:
            loop = _Predecessor(contender, model)
        else:
            loop = _JobLoop(contender.engine, contender, model)
        while True:
            texts = connection.recv()
            started = time.perf_counter()
            loop.summarize(texts)
            seconds = time.perf_counter() - started
            chunks, peak = tuple(loop.results()), peak_memory_bytes() / _MB
            connection.send(Round(seconds, chunks, peak, loop.batch_tokens))
    except (EOFError, ConnectionError):  # the parent has ended, or wants no more
        return
    except Exception as error:  # whatever it is: the parent raises it, by the contender's name
        connection.send(f"{type(error).__name__}: {error}")
