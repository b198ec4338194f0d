"""Which of a product's reviews the model reads: the window, and what it leaves out.

A text grouped from raw dumps holds one review a line. A grouped CSV is one line a product: how many
reviews its window holds is not known, and null, unless it holds all of them.
"""

from __future__ import annotations

import polars as pl

# Beside a window's text: how many reviews it holds whole; and which of its lines, counted from 0,
# are the beginning of a review and not all of it.
COVERAGE = ("reviews_read", "cut_reviews")


def window(max_chars: int) -> list[pl.Expr]:
    """``text``, the first characters of a product's reviews, and ``COVERAGE`` of that text.

    A review that the window's end cuts is not read but cut; one of which the window holds nothing
    is neither. So read, cut and left out add up to ``review_count``.

    Args:
        max_chars: characters of the window.
    """
    reviews, count = pl.col("all_reviews"), pl.col("review_count").cast(pl.Int64)
    text = reviews.str.slice(0, max_chars)
    is_whole = reviews.str.len_bytes() == text.str.len_bytes()
    is_by_line = _line_breaks(reviews) + 1 == count
    # The window's last line is a whole review if it, or what follows it, ends one.
    begun = _line_breaks(text)
    ends_at_a_break = text.str.ends_with("\n") | (reviews.str.slice(max_chars, 1) == "\n")
    whole = begun + (~text.str.ends_with("\n") & ends_at_a_break).cast(pl.Int64)
    none: pl.Expr = pl.lit([], dtype=pl.List(pl.Int64))
    return [
        text.alias("text"),
        pl.when(is_whole).then(count).when(is_by_line).then(whole).alias("reviews_read"),
        pl.when(is_whole | (is_by_line & ends_at_a_break))
        .then(none)
        .when(is_by_line)
        .then(pl.concat_list(begun))
        .alias("cut_reviews"),
    ]


def _line_breaks(text: pl.Expr) -> pl.Expr:
    return text.str.count_matches("\n", literal=True).cast(pl.Int64)
