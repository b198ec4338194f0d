"""Levels of chunks: how the summaries of a product, or of one of its sides, become one.

The chunks of its reviews are the first level, and the only one with the strategy ``join``. With
the others, neighbouring summaries of a level are joined into the chunks of the next until one is
left. Each of these chunks joins at least two summaries, whatever their length: above n
chunks there are at most log2(n) levels, rounded up, and n - 1 chunks in all of them.
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
    """Chunks of one product, or of one of its sides, that are generated side by side.

    ``keys`` are equal for chunks of equal tokens. ``parts`` counts what each chunk joins: words of
    the reviews on the first level, summaries of the level below on the others. ``carried`` is the
    key of a summary of the level below that had no neighbour left and goes up unchanged.
    """

    chunks: tuple[Chunk, ...]
    parts: tuple[int, ...]
    keys: tuple[bytes, ...]
    carried: bytes | None = None

    @classmethod
    def of(
        cls, chunks: Sequence[Chunk], parts: Sequence[int], carried: bytes | None = None
    ) -> Level:
        """Compute the keys of a level's chunks."""
        ids = (array("q", chunk.token_ids).tobytes() for chunk in chunks)
        keys = tuple(hashlib.blake2b(row, digest_size=16).digest() for row in ids)
        return cls(tuple(chunks), tuple(parts), keys, carried)

    @property
    def summaries(self) -> tuple[bytes, ...]:
        """Keys of the summaries that this level leaves, in order."""
        return self.keys if self.carried is None else (*self.keys, self.carried)


def first_level(chunks: Sequence[Chunk]) -> Level:
    """Make the level of the reviews, whose chunks join words by single spaces."""
    return Level.of(chunks, [chunk.text.count(" ") + 1 for chunk in chunks])


class SummaryJoiner:
    """Joins the summaries of one level into the chunks of the next, up to ``chunk_tokens``."""

    def __init__(self, tokenizer: ChunkTokenizer, settings: SummarySettings) -> None:
        self._tokenizer = tokenizer
        self._limit = token_limit(tokenizer, settings)

    def join(self, below: Level, summaries: Sequence[str]) -> Level:
        """Make the level above ``below`` from the texts of its summaries, two or more."""
        groups = joined(self._tokenizer.counts(summaries), self._limit)
        alone = groups.pop() if len(groups[-1]) < _FEWEST_JOINED else None
        texts = [" ".join(summaries[index] for index in group) for group in groups]
        carried = None if alone is None else below.summaries[alone.start]
        return Level.of(self._tokenizer.chunks(texts), [len(group) for group in groups], carried)


def summary_joiner(tokenizer: ChunkTokenizer, settings: SummarySettings) -> SummaryJoiner | None:
    """Return the joiner of the strategy; None for the strategy ``join``."""
    return SummaryJoiner(tokenizer, settings) if settings.joins_summaries else None


def token_limit(tokenizer: ChunkTokenizer, settings: SummarySettings) -> int:
    """Return the number that the tokens of a chunk's text stay below."""
    return settings.chunk_tokens - tokenizer.special_tokens


def joined(tokens: Sequence[int], limit: int) -> list[range]:
    """Group neighbouring summaries: as few groups as possible, of about equal size.

    The ``tokens`` of a group stay below ``limit``, unless two summaries alone have more. A group is
    a range of places in ``tokens``, two or more in each but the last.
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
    """Count the chunks of each level above ``chunks`` if every summary has so many tokens."""
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
