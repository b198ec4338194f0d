"""Products to summaries, for whole checkpoints: chunk, batch, generate, assemble.

One bad product costs only itself: it is quarantined with a reason and the rest completes. An
engine that fails on everything is not a bad product: that is raised, never recorded as a result.
"""

from __future__ import annotations

import hashlib
import logging
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from reviewsum_assets.checkpoints.files import SummaryRow
from reviewsum_assets.checkpoints.manifest import QuarantinedProduct, SummarizedProduct
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.errors import JobError
from reviewsum_assets.job.batching import batches
from reviewsum_assets.job.canaries import CANARY_TEXTS
from reviewsum_assets.job.chunking import Chunk, Chunker
from reviewsum_assets.job.engines.base import Engine, EngineOutOfMemory
from reviewsum_assets.job.tokenization import ChunkTokenizer

_log = logging.getLogger("reviewsum.job")


@dataclass(frozen=True)
class ProductInput:
    """One product as planned."""

    product_id: str
    text: str | None
    review_count: int
    input_hash: str


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


@dataclass(frozen=True)
class _ChunkSummary:
    """A chunk's summary as token ids, or why there is none."""

    ids: tuple[int, ...]
    failure: str | None = None


@dataclass
class ChunkedCheckpoint:
    """One checkpoint on its way through a pool; ``chunks`` and ``keys`` are lists by product."""

    source: CheckpointInput
    chunks: list[list[Chunk]]
    keys: list[list[bytes]]
    tokenize_seconds: float
    waiting: set[bytes] = field(default_factory=set)
    own: set[bytes] = field(default_factory=set)  # chunks generated for this checkpoint first
    generate_seconds: float = 0.0


def chunk_checkpoint(source: CheckpointInput, chunker: Chunker) -> ChunkedCheckpoint:
    """Cut a checkpoint's products into chunks."""
    started = time.monotonic()
    chunks = [chunker.chunks(product.text) for product in source.products]
    keys = [[_key(chunk.token_ids) for chunk in of_product] for of_product in chunks]
    return ChunkedCheckpoint(source, chunks, keys, time.monotonic() - started)


class Summarizer:
    """Summarizes checkpoints with one engine, remembering every chunk it has paid for.

    One thread at a time may call ``generate``; another may call ``assemble`` meanwhile.

    Args:
        engine: generates.
        tokenizer: of the engine's model.
        batch_tokens: source tokens of a batch, padding included; halved when memory runs out.
        on_generated: called after each batch with the checkpoint's number, the chunks generated
            and the share of the checkpoint's chunks that is done.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: ChunkTokenizer,
        batch_tokens: int,
        on_generated: Callable[[int, int, float], None],
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._on_generated = on_generated
        self._known: dict[bytes, _ChunkSummary] = {}

    def generate(self, works: Sequence[ChunkedCheckpoint]) -> Iterator[ChunkedCheckpoint]:
        """Generate a pool of checkpoints; each is yielded when its last chunk is generated.

        Raises:
            JobError: the engine fails even on plain text.
        """
        pool: dict[bytes, Chunk] = {}
        for work in works:
            for chunk, key in _flat(work):
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
            total = len({key for key_list in work.keys for key in key_list})
            share = 1 - len(work.waiting) / total
            self._on_generated(work.source.planned.number, len(mine), share)

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
        """Join a generated checkpoint's chunk summaries, product by product."""
        started = time.monotonic()
        rows: list[SummaryRow] = []
        summarized: list[SummarizedProduct] = []
        quarantined: list[QuarantinedProduct] = []
        paid_for: set[bytes] = set()
        for product, chunks, keys in zip(work.source.products, work.chunks, work.keys, strict=True):
            parts = [self._known[key] for key in keys]
            texts = [self._tokenizer.decode(part.ids) for part in parts]
            reason = _why_not(parts, texts)
            if reason is not None:
                quarantined.append(
                    QuarantinedProduct(
                        product_id=product.product_id, input_hash=product.input_hash, reason=reason
                    )
                )
                continue
            rows.append(SummaryRow(product.product_id, " ".join(texts), product.review_count))
            fresh = [key for key in dict.fromkeys(keys) if key in work.own - paid_for]
            paid_for.update(fresh)
            summarized.append(
                SummarizedProduct(
                    product_id=product.product_id,
                    input_hash=product.input_hash,
                    chunks=len(chunks),
                    chunks_reused=len(chunks) - len(fresh),
                    tokens_in=sum(len(chunk.token_ids) for chunk in chunks),
                    tokens_out=sum(len(part.ids) for part in parts),
                )
            )
        return CheckpointSummaries(
            planned=work.source.planned,
            rows=tuple(rows),
            products=tuple(summarized),
            quarantined=tuple(quarantined),
            reviews=sum(product.review_count for product in work.source.products),
            seconds=StageSeconds(
                read=work.source.read_seconds,
                tokenize=work.tokenize_seconds,
                generate=work.generate_seconds,
                assemble=time.monotonic() - started,
            ),
        )


def _flat(work: ChunkedCheckpoint) -> Iterator[tuple[Chunk, bytes]]:
    for chunks, keys in zip(work.chunks, work.keys, strict=True):
        yield from zip(chunks, keys, strict=True)


def _key(token_ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", token_ids).tobytes(), digest_size=16).digest()


def _why_not(parts: Sequence[_ChunkSummary], texts: Sequence[str]) -> str | None:
    """Why a product has no summary, or None if it has one."""
    if not parts:
        return "no text to summarize"
    for number, (part, text) in enumerate(zip(parts, texts, strict=True), 1):
        failure = part.failure or ("" if text else "the model wrote an empty summary")
        if failure:
            return f"chunk {number} of {len(parts)}: {failure}"
    return None
