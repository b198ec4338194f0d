"""What an aspect of a product is, so that reviews and reference summaries speak of the same things.

An aspect carries every way a reviewer may praise or criticize it, and the one phrase by which a
summary names that praise or criticism. The phrase is true of each of those ways.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aspect:
    """One side of a product that reviewers judge.

    ``topic``, ``praise`` and ``complaint`` are noun phrases for summaries. ``nouns`` fit the
    general judgements of `phrasebook`. ``loved`` and ``hated`` are clauses without end
    punctuation; their ``{slots}`` are filled when a review is written.
    """

    name: str
    topic: str
    praise: str
    complaint: str
    nouns: tuple[str, ...]
    loved: tuple[str, ...]
    hated: tuple[str, ...]


def clauses(text: str) -> tuple[str, ...]:
    """Split a block of text into one clause a line."""
    return tuple(line.strip() for line in text.strip().splitlines())
