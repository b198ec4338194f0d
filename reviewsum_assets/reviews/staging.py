"""Stages reviews on local disk in buckets that fit into memory, and groups each bucket.

All reviews of a product are in one bucket, so that duplicates across dumps are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from reviewsum_assets.reviews.fields import GROUPED_SCHEMA

_BUCKET_BYTES = 256 * 1024 * 1024
_MOST_BUCKETS = 64
# A dump may unpack to more than its size suggested: larger buckets are split.
MOST_IN_A_BUCKET = 2 * _BUCKET_BYTES
_MOST_SPLITS = 2
_HASH_SEED = 17
_SECONDS_PER_DAY = 86_400


class GroupedBucket(NamedTuple):
    """Grouped reviews of one bucket; ``too_few`` has the product_id of products left out."""

    products: pl.DataFrame
    too_few: pl.DataFrame
    duplicates: int


class StagedReviews:
    """Reviews in ``REVIEW_SCHEMA``, written batch by batch.

    Args:
        directory: a local directory to create.
        total_bytes: estimated size of all reviews; sets the number of buckets.
        splits: how often these reviews were split already.
    """

    def __init__(self, directory: Path, total_bytes: int, splits: int = 0) -> None:
        directory.mkdir()
        self._directory = directory
        self._buckets = min(_MOST_BUCKETS, total_bytes // _BUCKET_BYTES + 1)
        self._splits = splits
        self._sizes: Counter[int] = Counter()  # bytes of text by bucket
        self._parts = 0

    def add(self, reviews: pl.DataFrame) -> None:
        """Stage some reviews."""
        bucket = pl.col("product_id").hash(_HASH_SEED + self._splits) % self._buckets
        parts = reviews.with_columns(bucket=bucket).partition_by(
            "bucket", as_dict=True, include_key=False
        )
        for (number,), part in parts.items():
            folder = self._directory / f"{number}"
            folder.mkdir(exist_ok=True)
            part.write_parquet(folder / f"{self._parts}.parquet", compression="lz4")
            self._sizes[int(number)] += int(part["text"].str.len_bytes().sum())
        self._parts += 1

    def grouped(self, min_reviews: int) -> Iterator[GroupedBucket]:
        """Group each bucket, leaving out products with fewer than ``min_reviews`` reviews."""
        for number, size in sorted(self._sizes.items()):
            folder = self._directory / f"{number}"
            if size > MOST_IN_A_BUCKET and self._splits < _MOST_SPLITS:
                yield from self._split(folder, size, min_reviews)
            else:
                yield _group(pl.read_parquet(folder / "*.parquet"), min_reviews)

    def _split(self, folder: Path, size: int, min_reviews: int) -> Iterator[GroupedBucket]:
        """Group a bucket in smaller ones; repeated rows within a part are removed at once."""
        smaller = StagedReviews(folder / "split", size, self._splits + 1)
        repeated = 0
        for path in sorted(folder.glob("*.parquet")):
            part = pl.read_parquet(path)
            distinct = part.filter(_is_first_of(part.columns))
            repeated += part.height - distinct.height
            smaller.add(distinct)
        for bucket in smaller.grouped(min_reviews):
            yield bucket._replace(duplicates=bucket.duplicates + repeated)
            repeated = 0


def _group(reviews: pl.DataFrame, min_reviews: int) -> GroupedBucket:
    # Time counts by day, since some formats say no more: a review has to be the same, and in the
    # same place, in every format. The order must not depend on how reviews are spread over dumps.
    # Of duplicates the most helpful one is kept.
    by_day = reviews.with_columns(day=pl.col("timestamp").floordiv(_SECONDS_PER_DAY)).sort(
        [
            *("product_id", "day", "reviewer_id", "text", "helpful_votes"),
            *("title", "rating", "verified"),
        ],
        descending=[False, False, False, False, True, False, False, True],
        nulls_last=[False, False, True, True, True, True, True, True],
    )
    by_day = by_day.filter(_is_first_of(["product_id", "reviewer_id", "day", "text"])).with_columns(
        place=pl.int_range(pl.len(), dtype=pl.Int32).over("product_id")
    )
    # Most helpful first, then most recent.
    unique = by_day.with_columns(
        helpfulness_class=_helpfulness_class(pl.col("helpful_votes"))
    ).sort("product_id", "helpfulness_class", "place", descending=[False, False, True])
    titles = pl.col("title").filter(pl.col("title") != "")
    products = unique.group_by("product_id", maintain_order=True).agg(
        all_reviews=pl.col("text").str.join("\n"),
        all_user_summaries=titles.str.join("\n"),
        avg_rating=pl.col("rating").mean(),
        review_count=pl.len().cast(pl.Int64),
        total_helpful_votes=pl.col("helpful_votes").sum(),
        oldest_review_timestamp=pl.col("timestamp").min(),
        newest_review_timestamp=pl.col("timestamp").max(),
        review_ratings=pl.col("rating").cast(pl.Float32),
        review_places="place",
        review_days=pl.col("day").cast(pl.Int32),
        review_votes=pl.col("helpful_votes").cast(pl.Int32),
        review_verified="verified",
    )
    is_enough = pl.col("review_count") >= min_reviews
    # The most frequent style of each product; of equally frequent ones the first by name.
    styles = (
        unique.drop_nulls("style")
        .group_by("product_id", "style")
        .len()
        .sort(["product_id", "len", "style"], descending=[False, True, False])
        .unique("product_id", keep="first", maintain_order=True)
        .select("product_id", dominant_style="style")
    )
    return GroupedBucket(
        products=products.filter(is_enough)
        .join(styles, on="product_id", how="left")
        .select(GROUPED_SCHEMA.names())
        .sort("review_count", "product_id", descending=[True, False]),
        too_few=products.filter(~is_enough).select("product_id"),
        duplicates=reviews.height - unique.height,
    )


def _is_first_of(columns: Sequence[str]) -> pl.Expr:
    """Whether a review is the first of equal ones.

    Reviews that name no reviewer cannot be known to be the same: each of them counts.
    """
    return pl.col("reviewer_id").is_null() | pl.struct(columns).is_first_distinct()


def _helpfulness_class(votes: pl.Expr) -> pl.Expr:
    """Class of helpfulness, ascending from the most helpful: up to 1 vote, 2 to 3, 4 to 7, ...

    In classes one more vote matters only where it doubles the count. A single vote counts as none:
    Amazon's dumps name no count below 2, and one vote would otherwise lift a review above all
    those without votes, which most reviews are.
    """
    return votes.fill_null(0).clip(lower_bound=1).bitwise_leading_zeros()
