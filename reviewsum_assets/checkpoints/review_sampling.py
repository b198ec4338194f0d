"""A window that represents all of a product's reviews: also of those that few agree with.

Reviews fall into critical (below 3 of 5 stars), mixed (3), favourable (4 and more) and unrated
ones. The first of each present side opens the window; all others follow by the Sainte-Laguë method,
so that wherever the window ends, each side has about the share in it that it has among all reviews.
Within a side they keep their order: the most helpful first, then the most recent. Nothing is drawn
at random.

https://en.wikipedia.org/wiki/Sainte-Lagu%C3%AB_method
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Side(IntEnum):
    """What a review's rating says; among equals the lowest comes first."""

    CRITICAL = 0
    MIXED = 1
    FAVOURABLE = 2
    UNRATED = 3


@dataclass(frozen=True)
class Sample:
    """The window's text, one review a line.

    ``cut`` are the lines, from 0, that hold the beginning of a review only; all others are whole.
    ``ratings`` are those of the lines.
    """

    text: str
    cut: tuple[int, ...]
    ratings: tuple[float | None, ...]


def side_of(rating: float | None) -> Side:
    """The side of a rating in stars, 1 to 5."""
    if rating is None:
        return Side.UNRATED
    if rating < 3:
        return Side.CRITICAL
    return Side.MIXED if rating < 4 else Side.FAVOURABLE


def representative(
    reviews: Sequence[str], ratings: Sequence[float | None], max_chars: int
) -> Sample:
    """The window of a product's reviews.

    If they do not all fit, the first review of a side is cut, at a word's end, where it would take
    more than an equal part of the window: a long praise must not crowd out the one complaint.

    Args:
        reviews: single lines, the one to read first coming first.
        ratings: of each, in stars.
        max_chars: characters of the window.
    """
    sides = [side_of(rating) for rating in ratings]
    part = max_chars
    if sum(map(len, reviews)) + len(reviews) - 1 > max_chars:
        # Between two parts there is a line break.
        part = max(1, (max_chars + 1) // len(set(sides)) - 1)
    lines: list[str] = []
    cut: list[int] = []
    read: list[float | None] = []
    left = max_chars
    for index, is_first in _order(sides):
        review = reviews[index]
        room = min(left, part) if is_first else left
        line = _beginning(review, room)
        if not line:
            break
        is_cut = len(line) < len(review)
        if is_cut:
            cut.append(len(lines))
        lines.append(line)
        read.append(ratings[index])
        if is_cut and room == left:
            break  # by the window's end
        left -= len(line) + 1
    return Sample("\n".join(lines), tuple(cut), tuple(read))


def _order(sides: Sequence[Side]) -> Iterator[tuple[int, bool]]:
    """Places of the reviews, the one to read first coming first; and whether it opens its side."""
    places: dict[Side, list[int]] = {}
    for place, side in enumerate(sides):
        places.setdefault(side, []).append(place)
    taken = dict.fromkeys(places, 0)

    def rank(side: Side) -> tuple[bool, float, Side]:
        # Equal quotients are equal floats, since division rounds correctly.
        return taken[side] > 0, (2 * taken[side] + 1) / len(places[side]), side

    while taken:
        side = min(taken, key=rank)
        yield places[side][taken[side]], taken[side] == 0
        taken[side] += 1
        if taken[side] == len(places[side]):
            del taken[side]


def _beginning(review: str, chars: int) -> str:
    """All of a review, or as many whole words as fit; of a first word that does not, a part."""
    if len(review) <= chars:
        return review
    if chars <= 0:
        return ""
    words = review[: chars + 1].rpartition(" ")[0]
    return words or review[:chars]
