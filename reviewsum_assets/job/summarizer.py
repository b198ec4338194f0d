"""Products to summaries, for whole checkpoints: chunk, batch, generate, assemble.

One bad product costs only itself: it is quarantined with a reason and the rest completes. An
engine that fails on everything is not a bad product: that is raised, never recorded as a result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reviewsum_assets.checkpoints.chunk_records import ChunkRecord
from reviewsum_assets.checkpoints.files import SummaryRow
from reviewsum_assets.checkpoints.manifest import QuarantinedProduct, SummarizedProduct
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.errors import JobError
from reviewsum_assets.job.batching import batches
from reviewsum_assets.job.canaries import CANARY_TEXTS
from reviewsum_assets.job.chunking import Chunk, Chunker
from reviewsum_assets.job.engines.base import Engine, EngineOutOfMemory
from reviewsum_assets.job.hierarchy import Level, SummaryJoiner, first_level
from reviewsum_assets.job.tokenization import ChunkTokenizer

_log = logging.getLogger("reviewsum.job")


@dataclass(frozen=True)
class ProductInput:
    """One product as planned; see ``SummarizedProduct`` for what of its reviews is in the text."""

    product_id: str
    text: str | None
    review_count: int
    input_hash: str
    reviews_read: int | None = None
    reviews_cut: int | None = None


@dataclass(frozen=True)
class CheckpointInput:
    """One checkpoint and its products; ``read_seconds`` is what getting them took."""

    planned: PlannedCheckpoint
    products: tuple[ProductInput, ...]
    read_seconds: float = 0.0


@dataclass(frozen=True)
class StageSeconds:
    """Seconds of one checkpoint's stages; shared out by chunks where work was pooled."""

    read: float
    tokenize: float
    generate: float
    assemble: float


@dataclass(frozen=True)
class CheckpointSummaries:
    """What was made of one checkpoint."""

    planned: PlannedCheckpoint
    rows: tuple[SummaryRow, ...]
    products: tuple[SummarizedProduct, ...]
    quarantined: tuple[QuarantinedProduct, ...]
    reviews: int
    seconds: StageSeconds
    chunks: tuple[ChunkRecord, ...] = ()  # of the products summarized


@dataclass(frozen=True)
class _ChunkSummary:
    """A chunk's summary as token ids, or why there is none."""

    ids: tuple[int, ...]
    failure: str | None = None


@dataclass
class ChunkedCheckpoint:
    """One checkpoint on its way through a pool.

    ``levels`` are those of each product so far; ``pending`` are the products, by place, whose last
    level is to be generated, and ``waiting`` the keys of what of it is not yet.
    """

    source: CheckpointInput
    levels: list[list[Level]]
    pending: list[int]
    tokenize_seconds: float
    waiting: set[bytes] = field(default_factory=set)
    own: set[bytes] = field(default_factory=set)  # chunks generated for this checkpoint first
    asked: set[bytes] = field(default_factory=set)  # all of its chunks so far
    generate_seconds: float = 0.0

    @property
    def chunks(self) -> list[tuple[Chunk, ...]]:
        """The chunks of each product's reviews."""
        return [levels[0].chunks for levels in self.levels]


def chunk_checkpoint(source: CheckpointInput, chunker: Chunker) -> ChunkedCheckpoint:
    """Cut a checkpoint's products into chunks."""
    started = time.monotonic()
    levels = [[first_level(chunker.chunks(product.text))] for product in source.products]
    return ChunkedCheckpoint(source, levels, list(range(len(levels))), time.monotonic() - started)


class Summarizer:
    """Summarizes checkpoints with one engine, remembering every chunk it has paid for.

    One thread at a time may call ``generate``; another may call ``assemble`` meanwhile.

    Args:
        engine: generates.
        tokenizer: of the engine's model.
        batch_tokens: source tokens of a batch, padding included; halved when memory runs out.
        on_generated: called after each batch with the checkpoint's number, the chunks generated
            and the share of the checkpoint's chunks that is done.
        joiner: joins summaries into the chunks of a next level; None: there is one level.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: ChunkTokenizer,
        batch_tokens: int,
        on_generated: Callable[[int, int, float], None],
        joiner: SummaryJoiner | None = None,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._on_generated = on_generated
        self._joiner = joiner
        self._known: dict[bytes, _ChunkSummary] = {}

    def generate(self, works: Sequence[ChunkedCheckpoint]) -> Iterator[ChunkedCheckpoint]:
        """Generate a pool of checkpoints; each is yielded when its last chunk is generated.

        All checkpoints of the pool climb together: what a level leaves to the next is pooled too.

        Raises:
            JobError: the engine fails even on plain text.
        """
        climbing = list(works)
        while climbing:
            higher: list[ChunkedCheckpoint] = []
            for work in self._generate_level(climbing):
                self._climb(work)
                if work.pending:
                    higher.append(work)
                else:
                    yield work
            climbing = higher

    def _climb(self, work: ChunkedCheckpoint) -> None:
        """Put the next level upon that of every pending product that has one."""
        started = time.monotonic()
        done, work.pending = work.pending, []
        if self._joiner is None:
            return
        for place in done:
            top = work.levels[place][-1]
            parts = [self._known[key] for key in top.summaries]
            texts = [self._tokenizer.decode(part.ids) for part in parts]
            if len(parts) > 1 and _why_not(parts, texts) is None:
                work.levels[place].append(self._joiner.join(top, texts))
                work.pending.append(place)
        work.tokenize_seconds += time.monotonic() - started

    def _generate_level(self, works: Sequence[ChunkedCheckpoint]) -> Iterator[ChunkedCheckpoint]:
        """Generate the last level of pending products; each checkpoint is yielded when it is."""
        pool: dict[bytes, Chunk] = {}
        for work in works:
            for chunk, key in _flat(work):
                work.asked.add(key)
                if key not in self._known:
                    work.waiting.add(key)
                    if key not in pool:
                        work.own.add(key)
                        pool[key] = chunk
        waiting = [work for work in works if work.waiting]
        yield from (work for work in works if not work.waiting)
        for keys, seconds in self._generate_all(pool):
            for work in waiting:
                self._credit(work, keys, seconds)
            yield from (work for work in waiting if not work.waiting)
            waiting = [work for work in waiting if work.waiting]

    def _credit(self, work: ChunkedCheckpoint, keys: Sequence[bytes], seconds: float) -> None:
        """Take a generated batch off what a checkpoint waits for."""
        mine = work.own.intersection(keys)
        work.waiting.difference_update(keys)
        work.generate_seconds += seconds * len(mine) / len(keys)
        if mine:
            left = len(work.waiting) + self._most_above(work)
            share = 1 - left / (len(work.asked) + self._most_above(work))
            self._on_generated(work.source.planned.number, len(mine), share)

    def _most_above(self, work: ChunkedCheckpoint) -> int:
        """At most so many chunks are above the present level: each joins two or more."""
        if self._joiner is None:
            return 0
        tops = (work.levels[place][-1].summaries for place in work.pending)
        return sum(len(summaries) - 1 for summaries in tops if summaries)

    def _generate_all(self, pool: dict[bytes, Chunk]) -> Iterator[tuple[list[bytes], float]]:
        """Generate every chunk of the pool; yields each batch's keys and seconds."""
        remaining = list(pool)
        while remaining:
            lengths = [len(pool[key].token_ids) for key in remaining]
            budget = self._batch_tokens
            done: set[bytes] = set()
            for batch in batches(lengths, budget):
                keys = [remaining[index] for index in batch]
                started = time.monotonic()
                summaries = self._generate_batch([pool[key].token_ids for key in keys])
                self._known.update(zip(keys, summaries, strict=True))
                done.update(keys)
                yield keys, time.monotonic() - started
                if self._batch_tokens != budget:
                    break  # memory ran out: form the other batches anew
            remaining = [key for key in remaining if key not in done]

    def _generate_batch(self, batch: Sequence[Sequence[int]]) -> list[_ChunkSummary]:
        """Generate a batch; what fails is halved until the chunk at fault stands alone."""
        try:
            return [_ChunkSummary(tuple(ids)) for ids in self._engine.generate(batch)]
        except EngineOutOfMemory as error:
            self._batch_tokens = max(1, self._batch_tokens // 2)
            _log.warning("out of memory: %d tokens a batch from now on", self._batch_tokens)
            failure: Exception = error
        except Exception as error:
            failure = error
        if len(batch) > 1:
            middle = len(batch) // 2
            return [*self._generate_batch(batch[:middle]), *self._generate_batch(batch[middle:])]
        self._require_working_engine(failure)
        return [_ChunkSummary((), f"{type(failure).__name__}: {failure}")]

    def _require_working_engine(self, failure: Exception) -> None:
        # If the engine cannot summarize an ordinary text, the fault is not the product's.
        try:
            self._engine.generate([self._tokenizer.encode(CANARY_TEXTS[0])])
        except Exception as error:
            raise JobError(
                f"the engine fails on plain text too ({type(error).__name__}: {error}), so no "
                "product is at fault; look at the model, the device and its memory"
            ) from failure

    def assemble(self, work: ChunkedCheckpoint) -> CheckpointSummaries:
        """Join what the last level of each product of a generated checkpoint left."""
        started = time.monotonic()
        rows: list[SummaryRow] = []
        summarized: list[SummarizedProduct] = []
        quarantined: list[QuarantinedProduct] = []
        records: list[ChunkRecord] = []
        paid_for: set[bytes] = set()
        for product, levels in zip(work.source.products, work.levels, strict=True):
            said = self._said(levels)
            parts = [self._known[key] for key in levels[-1].summaries]
            texts = [said[key][1] for key in levels[-1].summaries]
            reason = _why_not(parts, texts)
            if reason is not None:
                if len(levels) > 1:
                    reason = f"level {len(levels)}, {reason}"
                quarantined.append(
                    QuarantinedProduct(
                        product_id=product.product_id, input_hash=product.input_hash, reason=reason
                    )
                )
                continue
            rows.append(SummaryRow(product.product_id, " ".join(texts), product.review_count))
            made = _records(product.product_id, levels, said)
            records += made
            keys = [key for level in levels for key in level.keys]
            fresh = work.own.intersection(keys) - paid_for
            paid_for |= fresh
            summarized.append(
                SummarizedProduct(
                    product_id=product.product_id,
                    input_hash=product.input_hash,
                    chunks=len(keys),
                    chunks_reused=len(keys) - len(fresh),
                    tokens_in=sum(record.tokens_in for record in made if record.parts),
                    tokens_out=sum(record.tokens_out for record in made if record.parts),
                    reviews=product.review_count,
                    reviews_read=product.reviews_read,
                    reviews_cut=product.reviews_cut,
                    chunks_by_level=tuple(len(level.keys) for level in levels),
                )
            )
        return CheckpointSummaries(
            planned=work.source.planned,
            rows=tuple(rows),
            products=tuple(summarized),
            quarantined=tuple(quarantined),
            chunks=tuple(records),
            reviews=sum(product.review_count for product in work.source.products),
            seconds=StageSeconds(
                read=work.source.read_seconds,
                tokenize=work.tokenize_seconds,
                generate=work.generate_seconds,
                assemble=time.monotonic() - started,
            ),
        )

    def _said(self, levels: Sequence[Level]) -> dict[bytes, tuple[int, str]]:
        """Tokens and text of every summary of a product."""
        known = {key: self._known[key].ids for level in levels for key in level.keys}
        return {key: (len(ids), self._tokenizer.decode(ids)) for key, ids in known.items()}


def _flat(work: ChunkedCheckpoint) -> Iterator[tuple[Chunk, bytes]]:
    for place in work.pending:
        top = work.levels[place][-1]
        yield from zip(top.chunks, top.keys, strict=True)


def _records(
    product_id: str, levels: Sequence[Level], said: Mapping[bytes, tuple[int, str]]
) -> list[ChunkRecord]:
    """Every chunk of a product, level by level; ``said`` has tokens and text of each summary."""
    records: list[ChunkRecord] = []
    for number, level in enumerate(levels, 1):
        for chunk, key, parts in zip(level.chunks, level.keys, level.parts, strict=True):
            records.append(ChunkRecord(product_id, number, parts, len(chunk.token_ids), *said[key]))
        if level.carried is not None:
            records.append(ChunkRecord(product_id, number, 0, 0, *said[level.carried]))
    return records


def _why_not(parts: Sequence[_ChunkSummary], texts: Sequence[str]) -> str | None:
    """Why a product has no summary, or None if it has one."""
    if not parts:
        return "no text to summarize"
    for number, (part, text) in enumerate(zip(parts, texts, strict=True), 1):
        failure = part.failure or ("" if text else "the model wrote an empty summary")
        if failure:
            return f"chunk {number} of {len(parts)}: {failure}"
    return None
