"""Figures of the merged table: how long its summaries are, how many of the reviews they cover."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from reviewsum_assets.checkpoints.merge import merged_slices
from reviewsum_assets.lake import Lake

_ROWS_A_SLICE = 50_000
_MOST_BINS = 12
_NICE_WIDTHS = (5, 10, 20, 25, 50, 100, 250, 500, 1000)
# Products by reviews: from so many on, up to the next; those below the first are a class too.
_CLASSES = (5, 10, 20, 50, 100, 200, 500, 1000, 5000)


@dataclass(frozen=True)
class LengthBin:
    """Summaries of ``first`` to ``last`` words."""

    first: int
    last: int
    summaries: int


@dataclass(frozen=True)
class ReviewClass:
    """Products of ``fewest`` to ``most`` reviews, and their reviews; None: no limit."""

    fewest: int
    most: int | None
    products: int
    reviews: int
    products_covered: int
    reviews_covered: int


@dataclass(frozen=True)
class ReadClass:
    """Summarized products of ``fewest`` to ``most`` reviews, and what the model read of them.

    Reviews are those of products for which that is known; ``read`` and ``cut`` are part of them.
    """

    fewest: int
    most: int | None
    reviews: int
    read: int
    cut: int


@dataclass(frozen=True)
class MergedStatistics:
    """Lengths in words; ``classes`` is empty if the grouped reviews are gone.

    ``reads`` is empty if of no product it is known how many of its reviews were read.
    """

    words: int
    lengths: tuple[LengthBin, ...]
    reviews_covered: int
    classes: tuple[ReviewClass, ...]
    reads: tuple[ReadClass, ...]

    @property
    def review_coverage(self) -> float | None:
        """Share of all grouped reviews that are of a product with a summary."""
        reviews = sum(found.reviews for found in self.classes)
        return sum(found.reviews_covered for found in self.classes) / reviews if reviews else None


def merged_statistics(lake: Lake, grouped: pl.LazyFrame | None) -> MergedStatistics:
    """Count words and reviews; memory holds four numbers a product.

    Args:
        lake: holds the merged table.
        grouped: one row a product with review_count, if there still is such a table.
    """
    rows = pl.concat(
        slice_.select(
            *("review_count", "reviews_read", "reviews_cut"),
            words=pl.col("abstracted_summary").str.count_matches(r"\S+"),
        )
        for slice_ in merged_slices(lake, _ROWS_A_SLICE)
    )
    return MergedStatistics(
        words=int(rows["words"].sum()),
        lengths=_bins(rows["words"]),
        reviews_covered=int(rows["review_count"].sum()),
        classes=() if grouped is None else _classes(grouped, rows.lazy()),
        reads=_reads(rows.lazy()),
    )


def _bins(words: pl.Series) -> tuple[LengthBin, ...]:
    longest = words.max()
    assert longest is None or isinstance(longest, int)
    if longest is None:
        return ()
    width = next((w for w in _NICE_WIDTHS if longest // w < _MOST_BINS), _NICE_WIDTHS[-1])
    counts = dict((words // width).value_counts().iter_rows())
    return tuple(
        LengthBin(number * width, (number + 1) * width - 1, counts.get(number, 0))
        for number in range(min(counts), max(counts) + 1)
    )


def _classes(grouped: pl.LazyFrame, merged: pl.LazyFrame) -> tuple[ReviewClass, ...]:
    both = _by_class(grouped).join(_by_class(merged), on="place", how="left", suffix="_covered")
    found = both.fill_null(0).sort("place").collect(engine="streaming")
    return tuple(ReviewClass(*_limits(place), *counts) for place, *counts in found.iter_rows())


def _reads(merged: pl.LazyFrame) -> tuple[ReadClass, ...]:
    known = merged.filter(pl.col("reviews_read").is_not_null()).group_by(place=_place())
    sums = known.agg(pl.col("review_count", "reviews_read", "reviews_cut").sum()).sort("place")
    return tuple(
        ReadClass(*_limits(place), *counts) for place, *counts in sums.collect().iter_rows()
    )


def _limits(place: int) -> tuple[int, int | None]:
    """Of the class above so many lower limits."""
    limits = (0, *_CLASSES)
    return limits[place], limits[place + 1] - 1 if place < len(_CLASSES) else None


def _by_class(products: pl.LazyFrame) -> pl.LazyFrame:
    return products.group_by(place=_place()).agg(
        products=pl.len().cast(pl.Int64), reviews=pl.col("review_count").cast(pl.Int64).sum()
    )


def _place() -> pl.Expr:
    """A product's class, as a number."""
    count = pl.col("review_count").cast(pl.Int64)
    return pl.sum_horizontal((count >= fewest).cast(pl.Int64) for fewest in _CLASSES)
