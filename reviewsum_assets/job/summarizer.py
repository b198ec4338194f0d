"""From products to summaries, for whole checkpoints: chunk, batch, generate, assemble.

One bad product costs only itself: it is quarantined with a reason and the others complete. An
engine that fails on every text is not a bad product: that is raised, never recorded as a result.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reviewsum_assets.checkpoints.manifest import (
    ChunkRecord,
    QuarantinedProduct,
    SummarizedProduct,
    SummaryRow,
    Timings,
)
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.errors import JobError
from reviewsum_assets.job.chunking import BatchBudget, Chunk, Chunker, ChunkTokenizer
from reviewsum_assets.job.engines.base import CANARY_TEXTS, Engine, EngineOutOfMemory
from reviewsum_assets.job.hierarchy import Level, SummaryJoiner, first_level

_log = logging.getLogger("reviewsum.job")

# Some 0.4 KB each.
_REMEMBERED_CHUNKS = 100_000
# Seconds before a single chunk that ran out of memory is tried again: another process may free it.
_MEMORY_PAUSES = (1.0, 5.0, 20.0)


@dataclass(frozen=True)
class ProductInput:
    """One product as planned; see ``SummarizedProduct`` for the counts of its reviews."""

    product_id: str
    text: str | None
    review_count: int
    input_hash: str
    reviews_read: int | None = None
    reviews_cut: int | None = None


@dataclass(frozen=True)
class CheckpointInput:
    """One checkpoint and its products; ``read_seconds`` is the time to read and verify them."""

    planned: PlannedCheckpoint
    products: tuple[ProductInput, ...]
    read_seconds: float = 0.0


@dataclass(frozen=True)
class CheckpointSummaries:
    """The result of one checkpoint; ``chunks`` are those of the products summarized.

    ``timings`` of pooled work are shared out by chunks.
    """

    planned: PlannedCheckpoint
    rows: tuple[SummaryRow, ...]
    products: tuple[SummarizedProduct, ...]
    quarantined: tuple[QuarantinedProduct, ...]
    reviews: int
    timings: Timings
    chunks: tuple[ChunkRecord, ...] = ()


class _ChunkSummary(NamedTuple):
    """A chunk's summary as token ids, or why there is none."""

    ids: Sequence[int]
    failure: str | None = None


@dataclass
class ChunkedCheckpoint:
    """One checkpoint on its way through a pool.

    ``levels`` are the levels of each product so far. ``pending`` are the places of the products
    whose last level is not generated, and ``waiting`` the keys of its missing chunks.
    """

    source: CheckpointInput
    levels: list[list[Level]]
    pending: list[int]
    tokenize_seconds: float
    waiting: set[bytes] = field(default_factory=set)
    own: set[bytes] = field(default_factory=set)  # chunks generated for this checkpoint first
    summaries: dict[bytes, _ChunkSummary] = field(default_factory=dict)
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
    """Summarizes checkpoints with one engine; equal chunks are generated once.

    The last 100,000 chunks used are remembered. One thread at a time may call ``generate``;
    another may call ``assemble`` meanwhile.

    Args:
        engine: a loaded engine.
        tokenizer: of the engine's model.
        batch_tokens: source tokens per batch, padding included; reduced when memory runs out.
        on_generated: called after each batch with the checkpoint's number, the chunks generated
            and the share of the checkpoint's chunks that is done.
        joiner: makes the chunks of the next level; None: there is one level.
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
        self._budget = BatchBudget(batch_tokens)
        self._on_generated = on_generated
        self._joiner = joiner
        self._known: OrderedDict[bytes, _ChunkSummary] = OrderedDict()

    @property
    def batch_tokens(self) -> int:
        """Current source tokens per batch: fewer than given after memory ran out."""
        return self._budget.tokens

    def generate(self, works: Sequence[ChunkedCheckpoint]) -> Iterator[ChunkedCheckpoint]:
        """Generate a pool of checkpoints; each is yielded when its last chunk is generated.

        All checkpoints climb together: the chunks of the next level are pooled too.

        Raises:
            JobError: The engine fails even on plain text, or a single chunk does not fit into the
                device's memory.
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
        """Add the next level of every pending product that has one."""
        started = time.monotonic()
        done, work.pending = work.pending, []
        if self._joiner is None:
            return
        for place in done:
            top = work.levels[place][-1]
            parts = [work.summaries[key] for key in top.summaries]
            texts = [self._tokenizer.decode(part.ids) for part in parts]
            if len(parts) > 1 and _reason_against(parts, texts) is None:
                work.levels[place].append(self._joiner.join(top, texts))
                work.pending.append(place)
        work.tokenize_seconds += time.monotonic() - started

    def _generate_level(self, works: Sequence[ChunkedCheckpoint]) -> Iterator[ChunkedCheckpoint]:
        """Generate the last level of pending products; a finished checkpoint is yielded at once."""
        pool: dict[bytes, Chunk] = {}
        for work in works:
            for place in work.pending:
                top = work.levels[place][-1]
                for chunk, key in zip(top.chunks, top.keys, strict=True):
                    if key in self._known:
                        self._known.move_to_end(key)
                        work.summaries[key] = self._known[key]
                        continue
                    work.waiting.add(key)
                    if key not in pool:
                        work.own.add(key)
                        pool[key] = chunk
        waiting = [work for work in works if work.waiting]
        yield from (work for work in works if not work.waiting)
        for summaries, seconds in self._generate_all(pool):
            for work in waiting:
                self._credit(work, summaries, seconds)
            yield from (work for work in waiting if not work.waiting)
            waiting = [work for work in waiting if work.waiting]

    def _credit(
        self, work: ChunkedCheckpoint, summaries: Mapping[bytes, _ChunkSummary], seconds: float
    ) -> None:
        """Hand a generated batch to a checkpoint that waits for some of it."""
        arrived = work.waiting.intersection(summaries)
        work.waiting -= arrived
        work.summaries.update({key: summaries[key] for key in arrived})
        mine = len(work.own.intersection(arrived))
        work.generate_seconds += seconds * mine / len(summaries)
        if mine:
            left = len(work.waiting)
            if self._joiner is not None:  # each chunk above joins two summaries or more
                tops = (work.levels[place][-1].summaries for place in work.pending)
                left += sum(max(0, len(top) - 1) for top in tops)
            share = 1 - left / (len(work.summaries) + left)
            self._on_generated(work.source.planned.number, mine, share)

    def _generate_all(
        self, pool: Mapping[bytes, Chunk]
    ) -> Iterator[tuple[dict[bytes, _ChunkSummary], float]]:
        """Generate every chunk of the pool; yields the summaries of each batch and its seconds.

        Chunks of similar length share a batch, longest first: there is little padding, and memory
        runs out at the beginning if at all.
        """
        # sorted() is stable: equal input gives equal batches.
        remaining = sorted(pool, key=lambda key: -len(pool[key].token_ids))
        attempts = 0  # at a single chunk
        started = time.monotonic()
        while remaining:
            longest = len(pool[remaining[0]].token_ids)
            keys = remaining[: self._budget.rows(longest)]
            try:
                found = self._generate_batch([pool[key].token_ids for key in keys])
            except EngineOutOfMemory as error:
                self._budget.ran_out_of_memory(len(keys), longest)
                if len(keys) == 1:
                    if attempts == len(_MEMORY_PAUSES):
                        raise JobError(
                            f"a single chunk of {longest} tokens does not fit into the device's "
                            f"memory, {attempts + 1} attempts failed: {error}. To fix: end other "
                            "processes that use the device, lower num_beams, or use a device with "
                            "more memory"
                        ) from error
                    time.sleep(_MEMORY_PAUSES[attempts])
                    attempts += 1
                _log.warning(
                    "out of memory with %d chunks of up to %d tokens: continuing with %d tokens "
                    "per batch",
                    len(keys),
                    longest,
                    self._budget.tokens,
                )
                continue
            self._budget.worked(len(keys), longest)
            attempts = 0
            del remaining[: len(keys)]
            summaries = dict(zip(keys, found, strict=True))
            self._known.update(summaries)
            while len(self._known) > _REMEMBERED_CHUNKS:
                self._known.popitem(last=False)
            yield summaries, time.monotonic() - started  # failed attempts included
            started = time.monotonic()

    def _generate_batch(self, batch: Sequence[Sequence[int]]) -> list[_ChunkSummary]:
        """Generate a batch; one that fails is halved until the chunk at fault is alone.

        Raises:
            EngineOutOfMemory: A smaller batch may work; no chunk is at fault.
        """
        try:
            return [_ChunkSummary(array("I", ids)) for ids in self._engine.generate(batch)]
        except EngineOutOfMemory:
            raise
        except Exception as error:
            failure = error
        if len(batch) > 1:
            middle = len(batch) // 2
            return [*self._generate_batch(batch[:middle]), *self._generate_batch(batch[middle:])]
        try:
            # If the engine cannot summarize an ordinary text, the fault is not the product's.
            self._engine.generate([self._tokenizer.encode(CANARY_TEXTS[0])])
        except EngineOutOfMemory:
            raise
        except Exception as error:
            raise JobError(
                f"the engine fails on plain text too ({type(error).__name__}: {error}), so no "
                "product is at fault. To fix: check the model, the device and its memory"
            ) from failure
        return [_ChunkSummary((), f"{type(failure).__name__}: {failure}")]

    def assemble(self, work: ChunkedCheckpoint) -> CheckpointSummaries:
        """Join the summaries of the last level of each product of a generated checkpoint."""
        started = time.monotonic()
        rows: list[SummaryRow] = []
        summarized: list[SummarizedProduct] = []
        quarantined: list[QuarantinedProduct] = []
        records: list[ChunkRecord] = []
        counted: set[bytes] = set()
        for product, levels in zip(work.source.products, work.levels, strict=True):
            keys = [key for level in levels for key in level.keys]
            texts = {key: self._tokenizer.decode(work.summaries[key].ids) for key in set(keys)}
            last = [texts[key] for key in levels[-1].summaries]
            parts = [work.summaries[key] for key in levels[-1].summaries]
            reason = _reason_against(parts, last)
            if reason is not None:
                if len(levels) > 1:
                    reason = f"level {len(levels)}, {reason}"
                quarantined.append(
                    QuarantinedProduct(
                        product_id=product.product_id, input_hash=product.input_hash, reason=reason
                    )
                )
                continue
            rows.append(SummaryRow(product.product_id, " ".join(last), product.review_count))
            made = list(_records(product.product_id, levels, work.summaries, texts))
            records += made
            fresh = work.own.intersection(keys) - counted
            counted |= fresh
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
            timings=Timings(
                load=0.0,
                read=work.source.read_seconds,
                tokenize=work.tokenize_seconds,
                generate=work.generate_seconds,
                assemble=time.monotonic() - started,
                write=0.0,
            ),
        )


def _records(
    product_id: str,
    levels: Sequence[Level],
    summaries: Mapping[bytes, _ChunkSummary],
    texts: Mapping[bytes, str],
) -> Iterator[ChunkRecord]:
    """Describe every chunk of a product, level by level."""
    for number, level in enumerate(levels, 1):
        inputs: Iterable[tuple[int, int]] = zip(
            level.parts, (len(chunk.token_ids) for chunk in level.chunks), strict=True
        )
        if level.carried is not None:
            inputs = [*inputs, (0, 0)]
        for key, (parts, tokens) in zip(level.summaries, inputs, strict=True):
            tokens_out = len(summaries[key].ids)
            yield ChunkRecord(product_id, number, parts, tokens, tokens_out, texts[key])


def _reason_against(parts: Sequence[_ChunkSummary], texts: Sequence[str]) -> str | None:
    """Return why a product has no summary, or None if it has one."""
    if not parts:
        return "no text to summarize"
    for number, (part, text) in enumerate(zip(parts, texts, strict=True), 1):
        failure = part.failure or ("" if text else "the model wrote an empty summary")
        if failure:
            return f"chunk {number} of {len(parts)}: {failure}"
    return None
