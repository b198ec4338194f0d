"""Levels of chunks: how many summaries of a product become one.

The chunks of its reviews are the first level. With the strategy ``join`` there is no other. With
``hierarchical`` the summaries of a level are joined, neighbours in their order, into the chunks of
the next, until one is left. It always ends: a chunk above the first level joins two summaries at
least, whatever their length, so that of n a level leaves at most n/2, rounded up. Above n chunks
there are at most log2(n) levels, rounded up, and n - 1 chunks in all of them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from reviewsum_assets.job.chunking import Chunk, ChunkTokenizer
from reviewsum_assets.settings import SummarySettings

_FEWEST_JOINED = 2


@dataclass(frozen=True)
class Level:
    """Chunks of one product that are generated side by side.

    ``keys`` are equal for chunks of equal tokens. ``parts`` says what each chunk is made of: on
    the first level so many words of the reviews, above it so many summaries of the level below.
    ``carried`` is the key of a summary of the level below that was left alone: it goes up as it is.
    """

    chunks: tuple[Chunk, ...]
    keys: tuple[bytes, ...]
    parts: tuple[int, ...]
    carried: bytes | None = None

    @property
    def summaries(self) -> tuple[bytes, ...]:
        """Keys of the summaries that this level leaves, in order."""
        return self.keys if self.carried is None else (*self.keys, self.carried)


def first_level(chunks: Sequence[Chunk]) -> Level:
    """The level of a product's reviews."""
    # A chunk's words are joined by one space each, and hold no other.
    parts = tuple(chunk.text.count(" ") + 1 for chunk in chunks)
    return Level(tuple(chunks), tuple(map(_key, chunks)), parts)


class SummaryJoiner:
    """Joins the summaries of one level into the chunks of the next.

    Args:
        tokenizer: of the model.
        settings: ``chunk_tokens`` is taken from it.
    """

    def __init__(self, tokenizer: ChunkTokenizer, settings: SummarySettings) -> None:
        self._tokenizer = tokenizer
        self._limit = token_limit(tokenizer, settings)

    def join(self, below: Level, summaries: Sequence[str]) -> Level:
        """The level above ``below``.

        Args:
            below: leaves two summaries or more.
            summaries: their texts.
        """
        groups = joined(self._tokenizer.counts(summaries), self._limit)
        alone = groups.pop() if len(groups[-1]) < _FEWEST_JOINED else None
        texts = [" ".join(summaries[index] for index in group) for group in groups]
        ids = self._tokenizer.encode_many(texts)
        chunks = tuple(Chunk(text, tuple(row)) for text, row in zip(texts, ids, strict=True))
        return Level(
            chunks,
            tuple(map(_key, chunks)),
            tuple(map(len, groups)),
            None if alone is None else below.summaries[alone.start],
        )


def summary_joiner(tokenizer: ChunkTokenizer, settings: SummarySettings) -> SummaryJoiner | None:
    """What the strategy joins summaries with; None if it does not summarize them again."""
    return SummaryJoiner(tokenizer, settings) if settings.strategy == "hierarchical" else None


def token_limit(tokenizer: ChunkTokenizer, settings: SummarySettings) -> int:
    """What the tokens of a chunk's text stay below."""
    return settings.chunk_tokens - tokenizer.special_tokens


def joined(tokens: Sequence[int], limit: int) -> list[range]:
    """Which neighbours are summarized together: as few groups as can be, of about equal size.

    Args:
        tokens: of each summary.
        limit: tokens that a group stays below, unless two alone have more.

    Returns:
        Ranges of places in ``tokens``, two or more of them in each but the last.
    """
    groups = _packed(tokens, limit)
    # The lowest limit that needs no more groups spreads the summaries most evenly.
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        packed = _packed(tokens, middle)
        if len(packed) > len(groups):
            low = middle + 1
        else:
            groups, high = packed, middle
    return groups


def chunks_above(chunks: int, summary_tokens: float, limit: int) -> list[int]:
    """How many chunks each level above ``chunks`` has if every summary has so many tokens."""
    levels: list[int] = []
    left = chunks
    while left > 1:
        groups = joined([round(summary_tokens)] * left, limit)
        left = len(groups)
        levels.append(sum(len(group) >= _FEWEST_JOINED for group in groups))
    return levels


def _packed(tokens: Sequence[int], limit: int) -> list[range]:
    groups: list[range] = []
    start, total = 0, 0
    for index, count in enumerate(tokens):
        if index - start >= _FEWEST_JOINED and total + count >= limit:
            groups.append(range(start, index))
            start, total = index, 0
        total += count
    return [*groups, range(start, len(tokens))] if tokens else groups


def _key(chunk: Chunk) -> bytes:
    return hashlib.blake2b(array("q", chunk.token_ids).tobytes(), digest_size=16).digest()
