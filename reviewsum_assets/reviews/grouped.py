"""The committed result of grouping: tables of products, and the record that makes them current.

The record ``current.json`` is written last, which makes a result current in one atomic step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import Dump, find_dumps, has_dumps, listing_fingerprint
from reviewsum_assets.reviews.fields import GROUPED_SCHEMA
from reviewsum_assets.reviews.sources import DumpSummary
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import SealedRecord
from reviewsum_assets.storage.tables import UNREADABLE, first_line, require_columns

# Raised when reading, cleaning or grouping changes the result.
READER_VERSION = 5
RECORD = f"{places.GROUPED_REVIEWS}/current.json"
TOO_FEW = "too_few.parquet"
# Tables are removed by name, so a forged record must not name other objects.
_Table = Annotated[
    str, Field(pattern=rf"^{places.GROUPED_REVIEWS}/tables/[\w-]+/(part_\d+|too_few)\.parquet$")
]


class ReviewCounts(BaseModel):
    """Number of reviews by outcome; ``products`` of the ``products_found`` are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reviews_read: int = 0
    not_verified: int = 0
    too_old: int = 0
    too_short: int = 0
    duplicates: int = 0
    reviews_kept: int = 0
    products_found: int = 0
    products_too_small: int = 0
    products: int = 0
    quarantined: int = 0


class GroupedReviews(SealedRecord):
    """The committed result of grouping."""

    version: str
    tables: tuple[_Table, ...]  # the next grouping removes them
    dumps: tuple[DumpSummary, ...]
    counts: ReviewCounts
    quarantine_key: Annotated[str, Field(pattern=rf"^{places.QUARANTINE}/[\w-]+\.jsonl$")] | None
    seconds: float
    too_few: _Table | None = None  # product_id of products with too few reviews, if any
    superseded: tuple[_Table, ...] = ()  # tables of earlier results, still to be removed
    sha256: dict[str, str]  # of each table


def current_grouped_reviews(lake: Lake) -> GroupedReviews | None:
    """Return the committed record, or None if it is missing or damaged."""
    try:
        return GroupedReviews.unsealed(lake.get(RECORD) or b"")
    except ValueError:
        return None


def is_current(lake: Lake, settings: Settings) -> bool:
    """Whether the record fits the present dumps and settings; reads no dump.

    A result of dumps that an earlier call named stays current while no others are there.
    """
    record = current_grouped_reviews(lake)
    if record is None or not (settings.dumps or has_dumps(lake)):
        return record is not None
    return record.version == version_of(find_dumps(lake, settings), settings)


def stale_dumps(lake: Lake, settings: Settings) -> list[tuple[str, str]]:
    """Return (dump, change) for dumps that differ from the grouped ones; empty if up to date.

    Raises:
        DumpError: a dump that the settings name does not exist.
    """
    record = current_grouped_reviews(lake)
    if record is None:
        return [("all", "nothing has been grouped yet")]
    if is_current(lake, settings):
        return []
    grouped = {dump.name: dump for dump in record.dumps}
    found = []
    for dump in find_dumps(lake, settings):
        before = grouped.pop(dump.name, None)
        if before is None:
            found.append((dump.name, "not grouped yet"))
        elif before.size != dump.size:
            change = f"{before.size:,} bytes were grouped, now it has {dump.size:,}"
            found.append((dump.name, change))
        elif before.e_tag != dump.e_tag:
            found.append((dump.name, f"changed {dump.last_modified:%Y-%m-%d %H:%M} UTC"))
    found += [(name, "was grouped and is gone") for name in grouped]
    return found or [("all", "grouped with other settings, or with other content of the dumps")]


def damaged_tables(lake: Lake, *, read: bool = True) -> list[str]:
    """Return keys of tables that are missing or, if they are read, have another checksum."""
    record = current_grouped_reviews(lake)
    if record is None:
        return [RECORD]
    if read:
        return [key for key, sha256 in record.sha256.items() if lake.sha256(key) != sha256]
    return [key for key in record.sha256 if lake.head(key) is None]


def scan_grouped(lake: Lake, record: GroupedReviews) -> pl.LazyFrame:
    """Scan the products, in ``GROUPED_SCHEMA``; each part is sorted by number of reviews.

    Raises:
        DumpError: a part is missing or damaged, or another run has grouped since.
    """
    for key in record.tables:
        try:
            with reading_grouped(lake.uri_of(key)):
                require_columns(lake.scan_parquet(key).collect_schema(), GROUPED_SCHEMA)
        except DumpError:
            require_still_current(lake, record)
            raise
    return lake.scan_parquet(*record.tables)


def read_part(
    lake: Lake,
    record: GroupedReviews,
    key: str,
    *columns: str,
    chosen: pl.Series | None = None,
) -> pl.DataFrame:
    """Read one of the tables, into memory.

    Args:
        lake: read from.
        record: the grouped reviews.
        key: of the table.
        columns: default: all of ``GROUPED_SCHEMA``.
        chosen: ids of the products to read; default: all.

    Raises:
        DumpError: it is missing or damaged, or another run has grouped since.
    """
    try:
        with reading_grouped(lake.uri_of(key)):
            rows = lake.scan_parquet(key)
            require_columns(rows.collect_schema(), GROUPED_SCHEMA)
            if chosen is not None:
                rows = rows.filter(pl.col("product_id").is_in(chosen.implode()))
            return rows.select(columns or GROUPED_SCHEMA.names()).collect()
    except DumpError:
        require_still_current(lake, record)
        raise


def scan_too_few(lake: Lake, record: GroupedReviews) -> pl.LazyFrame:
    """Scan the ``product_id`` of products that have too few reviews."""
    if record.too_few is None:
        return pl.LazyFrame(schema={"product_id": pl.String})
    return lake.scan_parquet(record.too_few)


def repeated_products(grouped: pl.LazyFrame) -> pl.DataFrame:
    """Return products with several rows or without an id: product_id, times."""
    times = grouped.group_by("product_id").len("times")
    is_wrong = (pl.col("times") > 1) | pl.col("product_id").fill_null("").eq("")
    return times.filter(is_wrong).sort("product_id").collect(engine="streaming")


@contextmanager
def reading_grouped(named: str) -> Iterator[None]:
    """Translate errors while grouped tables are read; a scan finds damage only when collected.

    Raises:
        DumpError: the tables are damaged.
    """
    try:
        yield
    except (*UNREADABLE, OSError, ValueError) as error:
        raise DumpError(
            f"{named} cannot be read ({first_line(error)}). To fix: remove {RECORD}, and dumps are "
            "grouped again"
        ) from error


def require_still_current(lake: Lake, record: GroupedReviews) -> None:
    """Check that no other run has grouped since, which may have removed the record's tables.

    Raises:
        DumpError: another run has.
    """
    current = current_grouped_reviews(lake)
    if current is not None and current.version != record.version:
        raise DumpError(
            "another run has grouped other dumps, or with other settings, on this lake in the "
            "meantime: launch refresh again"
        )


def why_no_product(record: GroupedReviews, settings: Settings) -> str:
    """Return why grouping left no product, by the most frequent reason, and what to do."""
    counts = record.counts
    causes = {
        f"{counts.too_short:,} reviews have {settings.min_review_chars} characters or fewer "
        "(min_review_chars)": counts.too_short,
        f"{counts.not_verified:,} reviews are of no verified purchase (verified_only)": (
            counts.not_verified
        ),
        f"{counts.too_old:,} reviews are older than {settings.reviews_since} or have no date "
        "(reviews_since)": counts.too_old,
        f"{counts.quarantined:,} rows could not be read (see quarantine/)": counts.quarantined,
        f"{counts.products_too_small:,} products have fewer than {settings.min_reviews} usable "
        "reviews (min_reviews)": counts.products_too_small,
    }
    found = sorted((cause for cause in causes if causes[cause]), key=causes.__getitem__)
    return f"no product is left of {counts.reviews_read:,} reviews: {'; '.join(reversed(found))}"


def version_of(dumps: Sequence[Dump], settings: Settings) -> str:
    """Return a hash of all that decides the result: the dumps as listed, and settings."""
    inputs = [
        listing_fingerprint(dumps),
        settings.min_review_chars,
        settings.min_reviews,
        sorted(settings.columns.items()),
        settings.verified_only,
        str(settings.reviews_since),
        READER_VERSION,
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]
