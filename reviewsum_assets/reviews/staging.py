"""Reviews on local disk on their way to being grouped, in buckets small enough for memory.

All reviews of a product are in one bucket, so that duplicates across dumps meet there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from reviewsum_assets.reviews.fields import RAW_FIELDS, TEXT, product_id, what_is_wrong
from reviewsum_assets.reviews.quarantine import BadRow

GROUPED_SCHEMA = pl.Schema(
    {
        "product_id": pl.String(),
        "all_reviews": pl.String(),
        "all_user_summaries": pl.String(),
        "avg_rating": pl.Float64(),
        "review_count": pl.Int64(),
        "total_helpful_votes": pl.Int64(),
        "dominant_style": pl.String(),
        "oldest_review_timestamp": pl.Int64(),
        "newest_review_timestamp": pl.Int64(),
        # In stars, of each line of all_reviews; null where one line holds all reviews.
        "review_ratings": pl.List(pl.Float32),
        # Of each line among them all from the oldest to the newest, from 0; null as above.
        "review_places": pl.List(pl.Int32),
    }
)

_BUCKET_BYTES = 256 * 1024 * 1024
_MOST_BUCKETS = 64
# A bucket that turns out larger, since a dump unpacked to more than its size promised, is split.
MOST_IN_A_BUCKET = 2 * _BUCKET_BYTES
_MOST_SPLITS = 2
_HASH_SEED = 17
_SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class GroupedBucket:
    """The grouped reviews of one bucket, and how it came to them."""

    products: pl.DataFrame
    duplicates: int
    reviews: int
    products_found: int
    too_few: pl.DataFrame  # product_id of those with fewer reviews than are needed


class StagedReviews:
    """Reviews in ``REVIEW_SCHEMA``, written batch by batch.

    Args:
        directory: a local one, which is made.
        total_bytes: about how much will be staged, to choose the number of buckets.
        splits: how often these reviews were a bucket that was too large.
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
        """Group bucket by bucket, dropping products with fewer than ``min_reviews``."""
        for number, size in sorted(self._sizes.items()):
            folder = self._directory / f"{number}"
            if size > MOST_IN_A_BUCKET and self._splits < _MOST_SPLITS:
                yield from self._split(folder, size, min_reviews)
            else:
                yield _group(pl.read_parquet(folder / "*.parquet"), min_reviews)

    def _split(self, folder: Path, size: int, min_reviews: int) -> Iterator[GroupedBucket]:
        """Group a bucket in smaller ones, each part of it without repeated rows."""
        smaller = StagedReviews(folder / "split", size, self._splits + 1)
        repeated = 0
        for path in sorted(folder.glob("*.parquet")):
            part = pl.read_parquet(path)
            distinct = part.unique(maintain_order=True)
            repeated += part.height - distinct.height
            smaller.add(distinct)
        for bucket in smaller.grouped(min_reviews):
            yield replace(bucket, duplicates=bucket.duplicates + repeated)
            repeated = 0


def _group(reviews: pl.DataFrame, min_reviews: int) -> GroupedBucket:
    # By day, which no vote changes. The other columns make the order, and so the text, the same
    # however the reviews were spread over dumps; of duplicates the most helpful stays.
    # Time counts by the day, since some formats say no more: the same review has to be the same,
    # and in the same place, whichever format it came in.
    by_day = reviews.with_columns(day=pl.col("timestamp").floordiv(_SECONDS_A_DAY)).sort(
        ["product_id", "day", "reviewer_id", "text", "helpful_votes", "title", "rating"],
        descending=[False, False, False, False, True, False, False],
        nulls_last=[False, False, True, True, True, True, True],
    )
    by_day = by_day.unique(
        ["product_id", "reviewer_id", "day", "text"], keep="first", maintain_order=True
    ).with_columns(place=pl.int_range(pl.len(), dtype=pl.Int32).over("product_id"))
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
    )
    enough = products.filter(pl.col("review_count") >= min_reviews)
    return GroupedBucket(
        products=enough.join(_dominant_styles(unique), on="product_id", how="left")
        .select(GROUPED_SCHEMA.names())
        .sort("review_count", "product_id", descending=[True, False]),
        duplicates=reviews.height - unique.height,
        reviews=int(enough["review_count"].sum()),
        products_found=products.height,
        too_few=products.filter(pl.col("review_count") < min_reviews).select("product_id"),
    )


def _helpfulness_class(votes: pl.Expr) -> pl.Expr:
    """The class of helpfulness, ascending from the most helpful: up to 1 vote, 2 to 3, 4 to 7, ...

    Classes make one more vote matter only where it doubles the count. A single vote counts as none:
    the dumps of Amazon name no count below 2, and one more vote would otherwise lift a review above
    all those without votes, which most reviews are.
    """
    return votes.fill_null(0).clip(lower_bound=1).bitwise_leading_zeros()


def _dominant_styles(reviews: pl.DataFrame) -> pl.DataFrame:
    """Each product's most frequent style; among equals the first of the alphabet."""
    return (
        reviews.drop_nulls("style")
        .group_by("product_id", "style")
        .len()
        .sort(["product_id", "len", "style"], descending=[False, True, False])
        .unique("product_id", keep="first", maintain_order=True)
        .select("product_id", dominant_style="style")
    )


MEANINGFUL = frozenset((*RAW_FIELDS, *GROUPED_SCHEMA))

BATCH_ROWS = 100_000
# A grouped CSV has few rows and much text in each.
BATCH_CHARS = 64 * 1024 * 1024

# In bytes or characters: some 200,000 reviews of a product in a grouped CSV. What has more is no
# row, but a quote that nobody closed or a file that is meant to fill the memory.
MOST_ROW_LENGTH = 64 * 1024 * 1024
TOO_LONG = f"longer than {MOST_ROW_LENGTH:,} characters"


@dataclass(frozen=True)
class RawBatch:
    """Some rows of a dump.

    ``fields`` are string columns named as in the dump; a grouped CSV has one more, ``line``.
    ``bytes_done`` is the position in the dump's file.
    """

    fields: pl.DataFrame
    bad: list[BadRow]
    bytes_done: int


def wanted(columns: Sequence[str]) -> list[str]:
    """Those of a dump's columns that mean something here."""
    return [name for name in columns if name in MEANINGFUL]


def without_nameless(
    fields: pl.DataFrame, numbers: Sequence[int], bad: list[BadRow]
) -> tuple[pl.DataFrame, list[BadRow]]:
    """Take out rows that name no product, or not in a way that is taken.

    Args:
        fields: string columns.
        numbers: the line of each row.
        bad: the rows that are bad already.
    """
    reasons = fields.select(what_is_wrong(product_id(fields.columns))).to_series()
    nameless = reasons.is_not_null().arg_true()
    if nameless.is_empty():
        return fields, bad
    texts = fields.select(pl.coalesce([name for name in TEXT if name in fields.columns]))
    found = [
        BadRow.of(numbers[index], reasons[index], texts.item(index, 0) or "") for index in nameless
    ]
    return fields.filter(reasons.is_null()), sorted([*bad, *found], key=lambda row: row.line)
