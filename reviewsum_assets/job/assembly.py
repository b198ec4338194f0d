"""From the chunk summaries of one product to its summary, its counts and its records.

The levels of a product are given by side, see ``Chunker.by_side``: one stack of levels with an
empty name, or with ``two_sided`` one for each side that has reviews.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from reviewsum_assets.checkpoints.manifest import ChunkRecord
from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.job.hierarchy import Level

LevelsBySide = Mapping[str, Sequence[Level]]


class ChunkSummary(NamedTuple):
    """A chunk's summary as token ids, or why there is none."""

    ids: Sequence[int]
    failure: str | None = None


def product_summary(
    sides: LevelsBySide, texts: Mapping[bytes, str]
) -> tuple[str, tuple[int, int] | None]:
    """Join the summaries of the last level of each side.

    Args:
        sides: levels of a product.
        texts: summaries by key.

    Returns:
        The product's summary, and ``Sides.chars`` if it has sides.
    """
    last = {
        side: " ".join(texts[key] for key in levels[-1].summaries) for side, levels in sides.items()
    }
    if "" in last:
        return last[""], None
    divided = Sides(last.get("liked", ""), last.get("disliked", ""))
    return divided.summary, divided.chars


def chunks_by_level(sides: LevelsBySide) -> tuple[int, ...]:
    """Count the generated chunks of each level, of all sides together."""
    levels = zip_longest(*sides.values())
    return tuple(sum(len(level.keys) for level in same if level) for same in levels)


def chunk_records(
    product_id: str,
    sides: LevelsBySide,
    summaries: Mapping[bytes, ChunkSummary],
    texts: Mapping[bytes, str],
) -> Iterator[ChunkRecord]:
    """Describe every chunk of a product, level by level of each side."""
    numbered = (
        (side, number, level)
        for side, levels in sides.items()
        for number, level in enumerate(levels, 1)
    )
    for side, number, level in numbered:
        inputs: Iterable[tuple[int, int]] = zip(
            level.parts, (len(chunk.token_ids) for chunk in level.chunks), strict=True
        )
        if level.carried is not None:
            inputs = [*inputs, (0, 0)]
        for key, (parts, tokens) in zip(level.summaries, inputs, strict=True):
            tokens_out = len(summaries[key].ids)
            yield ChunkRecord(product_id, number, parts, tokens, tokens_out, texts[key], side)


def reason_against_product(
    sides: LevelsBySide,
    summaries: Mapping[bytes, ChunkSummary],
    texts: Mapping[bytes, str],
) -> str | None:
    """Return why a product has no summary, or None if every side has one."""
    if not sides:
        return "no review has stars, by which the strategy two_sided divides them"
    for side, levels in sides.items():
        top = levels[-1].summaries
        reason = reason_against([summaries[key] for key in top], [texts[key] for key in top])
        if reason is not None:
            level = f"level {len(levels)}" if len(levels) > 1 else ""
            return ", ".join(filter(None, (side, level, reason)))
    return None


def reason_against(parts: Sequence[ChunkSummary], texts: Sequence[str]) -> str | None:
    """Return why these parts are no summary, or None if they are."""
    if not parts:
        return "no text to summarize"
    for number, (part, text) in enumerate(zip(parts, texts, strict=True), 1):
        failure = part.failure or ("" if text else "the model wrote an empty summary")
        if failure:
            return f"chunk {number} of {len(parts)}: {failure}"
    return None
