"""Chunks products on all cores as a job does: one process a core, slices dealt as they are done."""

from __future__ import annotations

import hashlib
import multiprocessing
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Literal

from reviewsum_assets.bench.baseline import literal_pieces
from reviewsum_assets.bench.stage_inputs import product_texts
from reviewsum_assets.job.chunking import Chunk, Chunker, ChunkTokenizer
from reviewsum_assets.job.devices import worker_devices
from reviewsum_assets.settings import EngineSettings, SummarySettings

Rule = Literal["sums", "literal"]

_PRODUCTS_A_LEASE = 100
_START_SECONDS = 120

_chunks_of: Callable[[str], list[Chunk]]


@dataclass(frozen=True)
class Cut:
    """How one product was cut: the number of its chunks, and a hash of their texts and tokens."""

    chunks: int
    digest: str


@dataclass(frozen=True)
class Crew:
    """Worker processes that have loaded the tokenizer, and the texts to cut."""

    workers: ProcessPoolExecutor
    texts: tuple[str, ...]


def start_crew(model: Path, products: int, chars: int, rule: Rule) -> Crew:
    """Start the workers and wait until each is ready.

    Args:
        model: a Pegasus directory.
        products: how many are to be cut.
        chars: of each.
        rule: ``sums`` cuts by ``job.chunking``; ``literal`` by what it replaces.
    """
    context = multiprocessing.get_context("spawn")
    count = len(worker_devices(EngineSettings(device="cpu"), parameters=1))
    ready = context.Barrier(count + 1)
    workers = ProcessPoolExecutor(
        count, context, initializer=_load, initargs=(model, chars, rule, ready)
    )
    texts = tuple(product_texts(products, chars))
    for _ in range(count):  # a worker is started for each task that finds none idle
        workers.submit(_cut, ())
    ready.wait(_START_SECONDS)
    return Crew(workers, texts)


def cut_all(crew: Crew) -> list[Cut]:
    """Cut every text; the cuts are in the order of the texts."""
    slices = [
        crew.texts[start : start + _PRODUCTS_A_LEASE]
        for start in range(0, len(crew.texts), _PRODUCTS_A_LEASE)
    ]
    return [cut for cuts in crew.workers.map(_cut, slices) for cut in cuts]


def literal_chunks(tokenizer: ChunkTokenizer, settings: SummarySettings, text: str) -> list[Chunk]:
    """A text's chunks by the contract's literal rule, with the tokens of each."""
    pieces = literal_pieces(
        text[: settings.max_chars].split(),
        settings.chunk_tokens,
        lambda piece: tokenizer.counts([piece])[0] + tokenizer.special_tokens,
    )
    joined = [" ".join(piece) for piece in pieces]
    return [Chunk(piece, tuple(tokenizer.encode(piece))) for piece in joined]


def _load(model: Path, chars: int, rule: Rule, ready: Barrier) -> None:
    global _chunks_of
    settings = SummarySettings(max_chars=chars)
    tokenizer = ChunkTokenizer.load(model, "", settings.encoder_tokens)
    if rule == "sums":
        _chunks_of = Chunker(tokenizer, settings).chunks
    else:
        _chunks_of = partial(literal_chunks, tokenizer, settings)
    ready.wait(_START_SECONDS)


def _cut(texts: Sequence[str]) -> list[Cut]:
    return [Cut(len(chunks), _digest(chunks)) for chunks in map(_chunks_of, texts)]


def _digest(chunks: Sequence[Chunk]) -> str:
    """What a job hashes of a chunk, its tokens, and its text."""
    digest = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        digest.update(array("q", chunk.token_ids).tobytes())
        digest.update(f"{chunk.text}\n".encode())
    return digest.hexdigest()
