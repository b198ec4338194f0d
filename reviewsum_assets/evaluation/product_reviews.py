"""The reviews that summaries were made from: of a lake, or read from dumps once more."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reviewsum_assets import places
from reviewsum_assets.checkpoints.review_window import windows
from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews.grouping import (
    GroupedReviews,
    current_grouped_reviews,
    group_reviews,
    reading_grouped,
    scan_grouped,
)
from reviewsum_assets.settings import Settings, SummarySettings

# Grouping joins reviews, each of which is one line.
_BETWEEN_REVIEWS = "\n"


@dataclass(frozen=True)
class ProductReviews:
    """One product's reviews as the model sees them: no further than its window."""

    reviews: tuple[str, ...]
    rating: float | None  # mean of all its reviews, in stars


@dataclass(frozen=True)
class ReviewTable:
    """Some products' grouped reviews; ``grouped`` has the columns of a grouped table."""

    grouped: pl.DataFrame
    source: str

    def by_product(self, settings: SummarySettings) -> Mapping[str, ProductReviews]:
        """Each product's reviews that are whole in the window which these settings read.

        Raises:
            PlanError: the settings need ratings of reviews, which these lack.
        """
        read = windows(self.grouped.lazy(), settings).collect()
        ratings = dict(self.grouped.select("product_id", "avg_rating").iter_rows())
        return {
            product_id: ProductReviews(_whole_reviews(text or "", cut), ratings[product_id])
            for product_id, text, cut in read.select(
                "product_id", "text", "cut_reviews"
            ).iter_rows()
        }


def _whole_reviews(text: str, cut: Collection[int] | None) -> tuple[str, ...]:
    """Those that are whole; if not even one is, all that there is. None: what is cut is unknown."""
    reviews = text.split(_BETWEEN_REVIEWS)
    without = {len(reviews) - 1} if cut is None else set(cut)
    whole = [one for place, one in enumerate(reviews) if place not in without]
    return tuple(one for one in whole or reviews if one)


def reviews_of_lakes(lakes: Sequence[Lake], products: Collection[str]) -> ReviewTable:
    """The grouped reviews of these products on the first lake that has any.

    Raises:
        EvaluationError: none of the lakes holds grouped reviews.
        DumpError: they are damaged.
    """
    for lake in lakes:
        record = current_grouped_reviews(lake)
        if record is not None:
            return ReviewTable(_chosen(lake, record, products), lake.uri)
    named = ", ".join(lake.uri for lake in lakes) or "no lake"
    raise EvaluationError(
        f"the reviews are needed beside their summaries, and {named} has none: name them with "
        "--dump"
    )


def reviews_of_dumps(settings: Settings, products: Collection[str]) -> ReviewTable:
    """These products' reviews, read and grouped from the dumps that the settings name.

    Raises:
        DumpError: one of them cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="reviewsum-evaluation-") as scratch:
        lake = Lake.open(str(Path(scratch, "lake")))
        record, _ = group_reviews(lake, settings)
        chosen = _chosen(lake, record, products)
    return ReviewTable(chosen, ", ".join(settings.dumps))


def _chosen(lake: Lake, record: GroupedReviews, products: Collection[str]) -> pl.DataFrame:
    of_products = pl.col("product_id").is_in(list(products))
    with reading_grouped(lake.uri_of(places.GROUPED_REVIEWS)):
        return scan_grouped(lake, record).filter(of_products).collect(engine="streaming")
