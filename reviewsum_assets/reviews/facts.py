"""Facts of each product from all of its reviews, without a model: stars, days, highlights.

The table is written part by part, as reviews are grouped. A product whose reviews have not changed
keeps its row of the last table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import polars as pl

from reviewsum_assets.reviews.derived_table import DerivedTable, EarlierRows, TableRecord
from reviewsum_assets.reviews.grouped import GroupedReviews, read_part
from reviewsum_assets.reviews.highlights import HIGHLIGHT, highlights_of_product
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

FACTS_SCHEMA = pl.Schema(
    {
        "product_id": pl.String(),
        "review_count": pl.Int64(),
        # Reviews by whole stars: 4.5 counts as 4; null where reviews are not separate.
        **{f"stars_{stars}": pl.Int64() for stars in range(1, 6)},
        "mean_stars": pl.Float64(),
        # Of the reviews with stars: below 3, below 4, and the others.
        "critical_share": pl.Float64(),
        "mixed_share": pl.Float64(),
        "favourable_share": pl.Float64(),
        "verified_share": pl.Float64(),  # of the reviews for which it is known
        "oldest_day": pl.Date(),
        "newest_day": pl.Date(),
        "reviews_per_year": pl.List(pl.Struct({"year": pl.Int32, "reviews": pl.Int64})),
        "highlights": pl.List(HIGHLIGHT),
        "highlights_text": pl.String(),
        "reviews_hash": pl.String(),
    }
)

_SECONDS_PER_DAY = 86_400
# Bounds the memory beside that of the part of grouped reviews that is read.
_PRODUCTS_AT_A_TIME = 1_000
_HASH_BYTES = 16


PRODUCT_FACTS = DerivedTable(
    places.PRODUCT_FACTS,
    places.PRODUCT_FACTS_RECORD,
    version=2,
    schema=FACTS_SCHEMA,
    hash_column="reviews_hash",
)


def write_facts(
    lake: Lake, grouped: GroupedReviews, on_progress: Callable[[int], None] = lambda _: None
) -> tuple[TableRecord, bool]:
    """Write the facts of all products; the second value is True if they were already there.

    Args:
        lake: read from and written to.
        grouped: the grouped reviews on the lake.
        on_progress: receives the number of products done.

    Raises:
        DumpError: the grouped reviews are missing or damaged, or another run has grouped since.
    """
    before = PRODUCT_FACTS.undamaged(lake)
    if before is not None and before.source == grouped.version:
        return before, True
    earlier = PRODUCT_FACTS.earlier(lake, before)

    def parts() -> Iterator[tuple[pl.DataFrame, int]]:
        rows = 0
        for key in grouped.tables:
            part = read_part(lake, grouped, key)
            for start in range(0, part.height or 1, _PRODUCTS_AT_A_TIME):
                facts, computed = _facts_of(part.slice(start, _PRODUCTS_AT_A_TIME), earlier)
                yield facts, computed
                rows += facts.height
                on_progress(rows)

    return PRODUCT_FACTS.write(lake, grouped.version, parts()), False


def _facts_of(products: pl.DataFrame, earlier: EarlierRows) -> tuple[pl.DataFrame, int]:
    """Facts of grouped products, in their order, and the number of rows computed."""
    hashed = products.with_columns(reviews_hash=_reviews_hash(products))
    kept = earlier.of(hashed.select("product_id", "reviews_hash"))
    changed = hashed.join(kept, on="product_id", how="anti", maintain_order="left")
    facts = pl.concat([kept, _computed(changed)])
    order = products.select("product_id")
    return order.join(facts, on="product_id", how="left", maintain_order="left"), changed.height


def _reviews_hash(products: pl.DataFrame) -> pl.Series:
    """Hash of all that the facts of each product, and the evidence, are made from."""
    lists = [
        pl.col(name).list.eval(pl.element().cast(pl.String).fill_null("")).list.join(",")
        for name in ("review_ratings", "review_days", "review_votes", "review_verified")
    ]
    others = [
        pl.col(name).cast(pl.String)
        for name in (
            *("review_count", "avg_rating", "oldest_review_timestamp", "newest_review_timestamp"),
            "all_reviews",
        )
    ]
    values = [value.fill_null("unknown") for value in (*lists, *others)]
    texts = products.select(pl.concat_str(values, separator="\n")).to_series()
    hashes = [hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).hexdigest() for text in texts]
    return pl.Series(hashes, dtype=pl.String)


def _computed(products: pl.DataFrame) -> pl.DataFrame:
    """Facts of products, in ``FACTS_SCHEMA``, computed."""
    chosen = [
        highlights_of_product(text or "", stars)
        for text, stars in products.select("all_reviews", "review_ratings").iter_rows()
    ]
    texts = [" ".join(highlight.sentence for highlight in found) for found in chosen]
    rows = [[highlight._asdict() for highlight in found] for found in chosen]
    whole = pl.col("review_ratings").list.eval(pl.element().floor().clip(1, 5))
    year = pl.element().cast(pl.Date).dt.year().drop_nulls().sort()
    rated = pl.sum_horizontal(f"stars_{stars}" for stars in range(1, 6))

    def share(*stars: int) -> pl.Expr:
        some = pl.sum_horizontal(f"stars_{one}" for one in stars)
        return pl.when(rated > 0).then(some / rated)

    return (
        products.with_columns(
            **{f"stars_{stars}": whole.list.count_matches(stars) for stars in range(1, 6)},
            mean_stars="avg_rating",
            verified_share=pl.col("review_verified")
            .list.eval(pl.element().cast(pl.Float64))
            .list.mean(),
            oldest_day=_day("oldest_review_timestamp"),
            newest_day=_day("newest_review_timestamp"),
            reviews_per_year=pl.col("review_days").list.eval(
                pl.struct(
                    year=year.rle().struct.field("value"), reviews=year.rle().struct.field("len")
                )
            ),
            highlights=pl.Series(rows, dtype=FACTS_SCHEMA["highlights"]),
            highlights_text=pl.Series(texts, dtype=pl.String),
        )
        .with_columns(
            critical_share=share(1, 2), mixed_share=share(3), favourable_share=share(4, 5)
        )
        .select(pl.col(name).cast(dtype) for name, dtype in FACTS_SCHEMA.items())
    )


def _day(timestamp: str) -> pl.Expr:
    return pl.col(timestamp).floordiv(_SECONDS_PER_DAY).cast(pl.Int32).cast(pl.Date)
