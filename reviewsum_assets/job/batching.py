"""Batches by token budget: chunks of like length together, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Deal items into batches, longest first.

    Args:
        lengths: tokens of each item.
        max_tokens: rows times longest row of a batch stay within this; one row always fits.

    Yields:
        Indices into ``lengths``; equal input gives equal batches.
    """
    batch: list[int] = []
    longest = 0
    # sorted() is stable: items of equal length keep their order.
    for index in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        if batch and (len(batch) + 1) * longest > max_tokens:
            yield batch
            batch = []
        if not batch:
            longest = lengths[index]
        batch.append(index)
    if batch:
        yield batch
