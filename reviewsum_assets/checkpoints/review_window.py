"""Which of a product's reviews the model reads: the window, and what it leaves out.

A text grouped from raw dumps holds one review a line. A grouped CSV is one line a product: how many
reviews its window holds is not known, and null, unless it holds all of them.
"""

from __future__ import annotations

import polars as pl

from reviewsum_assets.checkpoints.review_sampling import representative
from reviewsum_assets.errors import PlanError
from reviewsum_assets.settings import SummarySettings

# Beside a window's text: how many reviews it holds whole; which of its lines, counted from 0, are
# the beginning of a review and not all of it; and the lines' ratings in stars.
COVERAGE = pl.Schema(
    [
        ("reviews_read", pl.Int64()),
        ("cut_reviews", pl.List(pl.Int64)),
        ("ratings", pl.List(pl.Float32)),
    ]
)
_RATINGS = "review_ratings"


def windows(grouped: pl.LazyFrame, settings: SummarySettings) -> pl.LazyFrame:
    """product_id, ``text`` and ``COVERAGE`` of grouped reviews.

    A review that a window cuts is not read but cut; one of which it holds nothing is neither. So
    read, cut and left out add up to ``review_count``.

    Args:
        grouped: one row a product with product_id, all_reviews, review_count and, for a
            representative order, review_ratings.
        settings: characters and order of the window.

    Raises:
        PlanError: the order is to be representative, and ratings are not known.
    """
    if _RATINGS not in grouped.collect_schema():
        grouped = grouped.with_columns(pl.lit(None, dtype=COVERAGE["ratings"]).alias(_RATINGS))
    if settings.review_order == "representative":
        _require_ratings(grouped)
        return _sampled(grouped, settings.window_chars)
    return grouped.select("product_id", *_first(settings.window_chars))


def _first(max_chars: int) -> list[pl.Expr]:
    """The window of the first characters."""
    reviews, count = pl.col("all_reviews"), pl.col("review_count").cast(pl.Int64)
    text = reviews.str.slice(0, max_chars)
    is_whole = reviews.str.len_bytes() == text.str.len_bytes()
    is_by_line = _line_breaks(reviews) + 1 == count
    # The window's last line is a whole review if it, or what follows it, ends one.
    begun = _line_breaks(text)
    ends_at_a_break = text.str.ends_with("\n") | (reviews.str.slice(max_chars, 1) == "\n")
    whole = begun + (~text.str.ends_with("\n") & ends_at_a_break).cast(pl.Int64)
    none: pl.Expr = pl.lit([], dtype=COVERAGE["cut_reviews"])
    read = pl.when(is_whole).then(count).when(is_by_line).then(whole)
    cut = (
        pl.when(is_whole | (is_by_line & ends_at_a_break))
        .then(none)
        .when(is_by_line)
        .then(pl.concat_list(begun))
    )
    return [
        text.alias("text"),
        read.alias("reviews_read"),
        cut.alias("cut_reviews"),
        pl.col(_RATINGS).list.head(read + cut.list.len()).alias("ratings"),
    ]


def _line_breaks(text: pl.Expr) -> pl.Expr:
    return text.str.count_matches("\n", literal=True).cast(pl.Int64)


def _require_ratings(grouped: pl.LazyFrame) -> None:
    if grouped.select(pl.col(_RATINGS).is_null().any()).collect().item():
        raise PlanError(
            "review_order representative needs the rating of each review, which these grouped "
            "reviews lack: a grouped CSV has none, nor have reviews that an earlier version "
            "grouped. Name dumps of raw reviews, or set review_order to helpful"
        )


def _sampled(grouped: pl.LazyFrame, max_chars: int) -> pl.LazyFrame:
    """The windows of representative order."""
    columns = pl.Schema([("text", pl.String()), *COVERAGE.items()])

    def sample(rows: pl.Series) -> pl.Series:
        texts, ratings = rows.struct.field("all_reviews"), rows.struct.field(_RATINGS)
        samples = [
            representative(text.split("\n"), of_text, max_chars)
            for text, of_text in zip(texts, ratings.to_list(), strict=True)
        ]
        sampled = [
            (one.text, len(one.ratings) - len(one.cut), one.cut, one.ratings) for one in samples
        ]
        return pl.DataFrame(sampled, schema=columns, orient="row").to_struct()

    sampled = pl.struct("all_reviews", _RATINGS).map_batches(
        sample, return_dtype=pl.Struct(columns), is_elementwise=True
    )
    return grouped.select("product_id", sampled.alias("window")).unnest("window")
