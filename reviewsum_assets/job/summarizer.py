"""From products to summaries, for whole checkpoints: chunk, batch, generate, assemble.

One bad product costs only itself: it is quarantined with a reason and the others complete. An
engine that fails on every text is not a bad product: that is raised, never recorded as a result.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reviewsum_assets.checkpoints.manifest import (
    ChunkRecord,
    QuarantinedProduct,
    SummarizedProduct,
    SummaryRow,
    Timings,
)
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.errors import JobError
from reviewsum_assets.job.assembly import (
    ChunkSummary,
    chunk_records,
    chunks_by_level,
    product_summary,
    reason_against,
    reason_against_product,
)
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


@dataclass
class ChunkedCheckpoint:
    """One checkpoint on its way through a pool.

    ``levels`` are the levels so far of each product by side, see ``Chunker.by_side``. ``pending``
    are those of them whose last level is not generated, and ``waiting`` the keys of its missing
    chunks.
    """

    source: CheckpointInput
    levels: list[dict[str, list[Level]]]
    pending: list[list[Level]]
    tokenize_seconds: float
    waiting: set[bytes] = field(default_factory=set)
    own: set[bytes] = field(default_factory=set)  # chunks generated for this checkpoint first
    summaries: dict[bytes, ChunkSummary] = field(default_factory=dict)
    generate_seconds: float = 0.0


def chunk_checkpoint(source: CheckpointInput, chunker: Chunker) -> ChunkedCheckpoint:
    """Cut a checkpoint's products into chunks."""
    started = time.monotonic()
    levels = [
        {side: [first_level(chunks)] for side, chunks in chunker.by_side(product.text).items()}
        for product in source.products
    ]
    pending = [stack for sides in levels for stack in sides.values()]
    return ChunkedCheckpoint(source, levels, pending, time.monotonic() - started)


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
        self._known: OrderedDict[bytes, ChunkSummary] = OrderedDict()

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
        """Add the next level of everything pending that has one."""
        started = time.monotonic()
        done, work.pending = work.pending, []
        if self._joiner is None:
            return
        for levels in done:
            top = levels[-1]
            parts = [work.summaries[key] for key in top.summaries]
            texts = [self._tokenizer.decode(part.ids) for part in parts]
            if len(parts) > 1 and reason_against(parts, texts) is None:
                levels.append(self._joiner.join(top, texts))
                work.pending.append(levels)
        work.tokenize_seconds += time.monotonic() - started

    def _generate_level(self, works: Sequence[ChunkedCheckpoint]) -> Iterator[ChunkedCheckpoint]:
        """Generate all pending last levels; a finished checkpoint is yielded at once."""
        pool: dict[bytes, Chunk] = {}
        for work in works:
            for *_, top in work.pending:
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
        self, work: ChunkedCheckpoint, summaries: Mapping[bytes, ChunkSummary], seconds: float
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
                tops = (levels[-1].summaries for levels in work.pending)
                left += sum(max(0, len(top) - 1) for top in tops)
            share = 1 - left / (len(work.summaries) + left)
            self._on_generated(work.source.planned.number, mine, share)

    def _generate_all(
        self, pool: Mapping[bytes, Chunk]
    ) -> Iterator[tuple[dict[bytes, ChunkSummary], float]]:
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

    def _generate_batch(self, batch: Sequence[Sequence[int]]) -> list[ChunkSummary]:
        """Generate a batch; one that fails is halved until the chunk at fault is alone.

        Raises:
            EngineOutOfMemory: A smaller batch may work; no chunk is at fault.
        """
        try:
            return [ChunkSummary(array("I", ids)) for ids in self._engine.generate(batch)]
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
        return [ChunkSummary((), f"{type(failure).__name__}: {failure}")]

    def assemble(self, work: ChunkedCheckpoint) -> CheckpointSummaries:
        """Join the summaries of the last levels of each product of a generated checkpoint."""
        started = time.monotonic()
        rows: list[SummaryRow] = []
        summarized: list[SummarizedProduct] = []
        quarantined: list[QuarantinedProduct] = []
        records: list[ChunkRecord] = []
        counted: set[bytes] = set()
        for product, sides in zip(work.source.products, work.levels, strict=True):
            keys = [key for levels in sides.values() for level in levels for key in level.keys]
            texts = {key: self._tokenizer.decode(work.summaries[key].ids) for key in set(keys)}
            reason = reason_against_product(sides, work.summaries, texts)
            if reason is not None:
                quarantined.append(
                    QuarantinedProduct(
                        product_id=product.product_id, input_hash=product.input_hash, reason=reason
                    )
                )
                continue
            summary, side_chars = product_summary(sides, texts)
            rows.append(SummaryRow(product.product_id, summary, product.review_count))
            made = list(chunk_records(product.product_id, sides, work.summaries, texts))
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
                    chunks_by_level=chunks_by_level(sides),
                    side_chars=side_chars,
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
