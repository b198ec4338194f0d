"""The two sides of a product with the strategy ``two_sided``: its praise and its complaints.

Reviews of 4 stars and more are liked, those with fewer stars are disliked: the division into
positive and critical reviews that the pages of shops show. A review without stars is on neither
side.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

LIKED_FROM_STARS = 4

# A review is one line and has text, so that an empty line ends a side.
_BETWEEN_SIDES = "\n\n"
# What the two parts of a summary begin with.
LIKED, DISLIKED = "Liked: ", "Disliked: "
_BETWEEN_SUMMARIES = " "

# Characters that a window needs beside those of its reviews.
WINDOW_EXTRA = len(_BETWEEN_SIDES)


class Sides(NamedTuple):
    """One text per side of a product, reviews or summary; empty if there is no such side."""

    liked: str
    disliked: str

    @classmethod
    def of_window(cls, text: str) -> Sides:
        """Divide a window's text into the reviews of each side, one per line."""
        liked, _, disliked = text.partition(_BETWEEN_SIDES)
        return cls(liked, disliked)

    @classmethod
    def of_summary(cls, summary: str, chars: tuple[int, int]) -> Sides:
        """Divide a product's summary again; the texts themselves may contain the labels.

        Args:
            summary: as ``summary`` returns it.
            chars: the ``chars`` of its sides.
        """
        liked, disliked = chars
        start = len(LIKED)
        return cls(summary[start : start + liked], summary[len(summary) - disliked :])

    @property
    def summary(self) -> str:
        """Both texts as one line, each after its label."""
        labelled = zip((LIKED, DISLIKED), self, strict=True)
        return _BETWEEN_SUMMARIES.join(f"{label}{text}" for label, text in labelled if text)

    @property
    def chars(self) -> tuple[int, int]:
        """Number of characters of each text."""
        return len(self.liked), len(self.disliked)


def window_text(liked: pl.Expr, disliked: pl.Expr) -> pl.Expr:
    """The text of a window from the reviews of each side; ``Sides.of_window`` divides it again."""
    end = pl.when(disliked != "").then(pl.lit(_BETWEEN_SIDES)).otherwise(pl.lit(""))
    return pl.concat_str(liked, end, disliked)
