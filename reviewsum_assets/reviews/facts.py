"""Facts of each product from all of its reviews, without a model: stars, days, highlights.

The table is written part by part, as reviews are grouped. A product whose reviews have not changed
keeps its row of the last table. The record ``product_facts.json`` is written last; a table that
differs from it is not used.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.grouped import (
    GroupedReviews,
    reading_grouped,
    require_still_current,
    scan_grouped,
)
from reviewsum_assets.reviews.highlights import HIGHLIGHT, highlights_of_product
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import Count, SealedRecord, file_sha256

# Raised when the facts of unchanged reviews change.
FACTS_VERSION = 1

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


class ProductFacts(SealedRecord):
    """The record of the table; ``computed`` of its rows are not copied from the last one."""

    grouped_version: str
    facts_version: int = FACTS_VERSION
    rows: Count
    computed: Count
    sha256: str
    bytes: Count


def write_facts(
    lake: Lake, grouped: GroupedReviews, on_progress: Callable[[int], None] = lambda _: None
) -> tuple[ProductFacts, bool]:
    """Write the facts of all products; the second value is True if they were already there.

    Args:
        lake: read from and written to.
        grouped: the grouped reviews on the lake.
        on_progress: receives the number of products done.

    Raises:
        DumpError: the grouped reviews are missing or damaged, or another run has grouped since.
    """
    before = undamaged_facts(lake)
    if before is not None and before.grouped_version == grouped.version:
        return before, True
    earlier = _Earlier(None if before is None else lake.scan_parquet(places.PRODUCT_FACTS))
    rows = unchanged = 0
    with tempfile.TemporaryDirectory(prefix="reviewsum-facts-") as scratch:
        parts: list[Path] = []
        for products in _slices(lake, grouped):
            facts, copied = _facts_of(products, earlier)
            parts.append(Path(scratch, f"part_{len(parts)}.parquet"))
            facts.write_parquet(parts[-1])
            rows += facts.height
            unchanged += copied
            on_progress(rows)
        path = Path(scratch, "facts.parquet")
        pl.scan_parquet(parts, glob=False).sink_parquet(path, compression="zstd")
        record = ProductFacts(
            grouped_version=grouped.version,
            rows=rows,
            computed=rows - unchanged,
            sha256=file_sha256(path),
            bytes=path.stat().st_size,
        )
        lake.put_file(places.PRODUCT_FACTS, path)
    lake.put(places.PRODUCT_FACTS_RECORD, record.sealed())
    return record, False


def undamaged_facts(lake: Lake) -> ProductFacts | None:
    """The record of the table, or None if either is missing, damaged, or of another version."""
    record = _record(lake)
    if record is None or record.facts_version != FACTS_VERSION:
        return None
    if lake.directory is None:  # S3 verifies checksums of its own
        found = lake.head(places.PRODUCT_FACTS)
        return record if found is not None and found.size == record.bytes else None
    return record if lake.sha256(places.PRODUCT_FACTS) == record.sha256 else None


def damaged_facts(lake: Lake) -> list[str]:
    """Damage of the table or its record; reads every byte. A lake may be without both."""
    record, sha256 = _record(lake), lake.sha256(places.PRODUCT_FACTS)
    if record is None and (sha256 or lake.head(places.PRODUCT_FACTS_RECORD)):
        return [f"{places.PRODUCT_FACTS_RECORD} is missing or not what was written"]
    if record is None or record.sha256 == sha256:
        return []
    trouble = "is missing" if sha256 is None else "is not what was written: its SHA-256 differs"
    return [f"{places.PRODUCT_FACTS} {trouble}"]


def _record(lake: Lake) -> ProductFacts | None:
    try:
        return ProductFacts.unsealed(lake.get(places.PRODUCT_FACTS_RECORD) or b"")
    except ValueError:
        return None


def first_facts(lake: Lake, rows: int) -> pl.DataFrame:
    """The first rows of the table, in ``FACTS_SCHEMA``."""
    return lake.scan_parquet(places.PRODUCT_FACTS).head(rows).collect()


def _slices(lake: Lake, grouped: GroupedReviews) -> Iterator[pl.DataFrame]:
    """Some products of ``GROUPED_SCHEMA`` at a time, at least one slice; one part is in memory."""
    scan_grouped(lake, grouped)  # refuses other tables
    for key in grouped.tables:
        try:
            with reading_grouped(lake.uri_of(key)):
                part = lake.scan_parquet(key).collect()
        except DumpError:
            require_still_current(lake, grouped)
            raise
        for start in range(0, part.height or 1, _PRODUCTS_AT_A_TIME):
            yield part.slice(start, _PRODUCTS_AT_A_TIME)


class _Earlier:
    """Rows of the last table; memory holds the ids and hashes of its products."""

    def __init__(self, table: pl.LazyFrame | None) -> None:
        self._table = pl.LazyFrame(schema=FACTS_SCHEMA) if table is None else table
        ids = self._table.select("product_id", "reviews_hash").with_row_index("row")
        self._index = ids.collect(engine="streaming")

    def rows_of(self, products: pl.DataFrame) -> pl.DataFrame:
        """The rows of these products (product_id, reviews_hash) that still hold."""
        keys = ["product_id", "reviews_hash"]
        rows = products.join(self._index, on=keys)["row"]
        if rows.is_empty():
            return pl.DataFrame(schema=FACTS_SCHEMA)
        # Products that are in one part now were near each other in the last table, too.
        first, last = rows.min(), rows.max()
        assert isinstance(first, int)
        assert isinstance(last, int)
        near = self._table.slice(first, last - first + 1)
        return near.join(products.lazy().select(keys), on=keys, how="semi").collect(
            engine="streaming"
        )


def _facts_of(products: pl.DataFrame, earlier: _Earlier) -> tuple[pl.DataFrame, int]:
    """Facts of grouped products, in their order, and the number of rows copied from earlier."""
    hashed = products.with_columns(reviews_hash=_reviews_hash(products))
    kept = earlier.rows_of(hashed.select("product_id", "reviews_hash"))
    changed = hashed.join(kept, on="product_id", how="anti", maintain_order="left")
    facts = pl.concat([kept, _computed(changed)])
    order = products.select("product_id")
    return order.join(facts, on="product_id", how="left", maintain_order="left"), kept.height


def _reviews_hash(products: pl.DataFrame) -> pl.Series:
    """Hash of all that the facts of each product are made from."""
    lists = [
        pl.col(name).list.eval(pl.element().cast(pl.String).fill_null("")).list.join(",")
        for name in ("review_ratings", "review_days", "review_verified")
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
