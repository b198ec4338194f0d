"""Groups dumps into one row per product, with bounded memory, and keeps the record of the result.

The record ``current.json`` is written last, which makes a result current in one atomic step.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import (
    Dump,
    find_dumps,
    has_dumps,
    listing_fingerprint,
    require_same,
)
from reviewsum_assets.reviews.fields import GROUPED_SCHEMA, normalized
from reviewsum_assets.reviews.formats import Format, Layout, detect_format
from reviewsum_assets.reviews.readers import fetched_ahead, mapped_ahead, read_batches
from reviewsum_assets.reviews.rows import Quarantine
from reviewsum_assets.reviews.staging import StagedReviews
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import SealedRecord, file_sha256
from reviewsum_assets.storage.tables import UNREADABLE, first_line, require_columns

# Raised when reading, cleaning or grouping changes the result.
READER_VERSION = 3
RECORD = f"{places.GROUPED_REVIEWS}/current.json"
_TOO_FEW = "too_few.parquet"
# Tables are removed by name, so a forged record must not name other objects.
_Table = Annotated[
    str, Field(pattern=rf"^{places.GROUPED_REVIEWS}/tables/[\w-]+/(part_\d+|too_few)\.parquet$")
]


@dataclass(frozen=True)
class Progress:
    """Progress of reading; bytes are those of the files as stored."""

    file: str
    rows: int
    bytes_done: int
    bytes_total: int


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DumpSummary(_Record):
    """Result of one dump; ``damage`` says where and why it breaks off, if it does."""

    name: str
    format: str
    size: int
    e_tag: str
    rows: int
    quarantined: int
    damage: str = ""


class ReviewCounts(_Record):
    """Number of reviews by outcome; ``products`` of the ``products_found`` are kept."""

    reviews_read: int = 0
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
    return record.version == _version(find_dumps(lake, settings), settings)


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


def group_reviews(
    lake: Lake, settings: Settings, on_progress: Callable[[Progress], None] | None = None
) -> tuple[GroupedReviews, bool]:
    """Group all dumps; the second value is True if an undamaged result was already there.

    Raises:
        DumpError: there is no dump, or one is empty, of unknown format or without a readable row;
            or dumps changed meanwhile.
        LakeError: a dump cannot be read, or was replaced while it was read.
    """
    before = current_grouped_reviews(lake)
    is_disk = lake.directory is not None  # S3 verifies checksums of its own
    if before is not None and is_current(lake, settings) and not damaged_tables(lake, read=is_disk):
        _remove_superseded(lake, before)
        return before, True
    dumps = find_dumps(lake, settings)
    with tempfile.TemporaryDirectory(prefix="reviewsum-grouping-") as scratch:
        record = _Grouping(lake, settings, dumps, Path(scratch), on_progress).group()
    before = current_grouped_reviews(lake)  # another run may have grouped
    if before is not None:
        kept = {*record.tables, record.too_few}
        superseded = {*before.tables, *before.superseded, before.too_few} - kept - {None}
        record = record.model_copy(update={"superseded": tuple(sorted(superseded))})
    lake.put(RECORD, record.sealed())
    _remove_superseded(lake, record)
    return record, False


def _remove_superseded(lake: Lake, record: GroupedReviews) -> None:
    """Remove tables of earlier results, which a killed run may have left."""
    for key in record.superseded:
        lake.delete(key)


def _version(dumps: list[Dump], settings: Settings) -> str:
    inputs = [
        listing_fingerprint(dumps),
        settings.min_review_chars,
        settings.min_reviews,
        READER_VERSION,
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


class _Grouping:
    """One pass over all dumps, which collects tables and counts."""

    def __init__(
        self,
        lake: Lake,
        settings: Settings,
        dumps: list[Dump],
        scratch: Path,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._lake, self._settings, self._dumps = lake, settings, dumps
        self._scratch = scratch
        self._on_progress = on_progress
        self._version = _version(dumps, settings)
        self._quarantine = Quarantine(scratch / "quarantine.jsonl")
        self._summaries: list[DumpSummary] = []
        self._tables: dict[str, str] = {}  # SHA-256 by key
        self._counts: Counter[str] = Counter()  # by field of ReviewCounts

    def group(self) -> GroupedReviews:
        """Read, group, write the tables; the caller commits the record."""
        started = time.monotonic()
        formats = [detect_format(dump) for dump in self._dumps]
        both = list(zip(self._dumps, formats, strict=True))
        grouped = [dump.name for dump, found in both if found.layout is Layout.GROUPED_CSV]
        if grouped and len(grouped) < len(both):
            raise DumpError(
                f"cannot mix dumps: {', '.join(grouped)} holds grouped reviews, the other dumps "
                "raw ones. To fix: name the ones to read with --dump"
            )
        if grouped:
            self._copy_products(both)
        else:
            self._group_reviews(both)
        # Before any write, because tables of this version may be the current ones.
        require_same(self._dumps, find_dumps(self._lake, self._settings))
        for key in self._tables:
            self._lake.put_file(key, self._scratch / PurePosixPath(key).name)
        quarantine_key = None
        if self._quarantine.counts:
            quarantine_key = f"{places.QUARANTINE}/{self._version}.jsonl"
            self._lake.put_file(quarantine_key, self._quarantine.path)
        counts = self._counts
        counts["products_found"] = counts["products"] + counts["products_too_small"]
        counts["quarantined"] = self._quarantine.counts.total()
        too_few = [key for key in self._tables if key.endswith(_TOO_FEW)]
        return GroupedReviews(
            version=self._version,
            tables=tuple(key for key in self._tables if key not in too_few),
            dumps=tuple(self._summaries),
            counts=ReviewCounts(**counts),
            quarantine_key=quarantine_key,
            seconds=time.monotonic() - started,
            too_few=too_few[0] if too_few else None,
            sha256=self._tables,
        )

    def _group_reviews(self, dumps: list[tuple[Dump, Format]]) -> None:
        total_bytes = sum(found.unpacked_bytes(dump.size) for dump, found in dumps)
        staged = StagedReviews(self._scratch / "staged", total_bytes)
        for reviews, usable in mapped_ahead(self._usable, self._frames(dumps)):
            self._counts["reviews_read"] += reviews
            self._counts["too_short"] += reviews - usable.height
            staged.add(usable)
        too_few = [pl.DataFrame(schema={"product_id": pl.String})]
        for bucket in staged.grouped(self._settings.min_reviews):
            self._keep_products(bucket.products)
            too_few.append(bucket.too_few)
            self._counts["duplicates"] += bucket.duplicates
            self._counts["products_too_small"] += bucket.too_few.height
        if not self._tables:  # no review was left
            self._keep_products(pl.DataFrame(schema=GROUPED_SCHEMA))
        if self._counts["products_too_small"]:
            self._keep_table(_TOO_FEW, pl.concat(too_few).sort("product_id"))

    def _usable(self, fields: pl.DataFrame) -> tuple[int, pl.DataFrame]:
        """Return the number of reviews, and those that are long enough."""
        reviews = normalized(fields)
        is_long = pl.col("text").str.len_chars() > self._settings.min_review_chars
        return reviews.height, reviews.filter(is_long)

    def _copy_products(self, dumps: list[tuple[Dump, Format]]) -> None:
        """Keep every product, because they were selected when they were grouped."""
        for frame in self._frames(dumps):
            self._keep_products(frame)
        self._counts["reviews_read"] = self._counts["reviews_kept"]

    def _frames(self, dumps: list[tuple[Dump, Format]]) -> Iterator[pl.DataFrame]:
        """Yield the good rows of every dump; bad ones go to quarantine.

        Raises:
            DumpError: a dump has no good row.
        """
        bytes_before, bytes_total = 0, sum(dump.size for dump in self._dumps)
        rows_before = 0
        for dump, detected in dumps:
            rows = 0
            for batch in fetched_ahead(read_batches(dump, detected)):
                self._quarantine.add(dump.name, batch.bad)
                rows += batch.fields.height
                if self._on_progress is not None:
                    done = bytes_before + batch.bytes_done
                    self._on_progress(Progress(dump.name, rows_before + rows, done, bytes_total))
                if batch.fields.height:
                    yield batch.fields
            bytes_before += dump.size
            rows_before += rows
            bad = self._quarantine.counts[dump.name]
            if not rows:
                raise DumpError(
                    f"dump {dump.name} ({detected}) has no readable row; {bad} are bad, the first: "
                    f"{self._quarantine.first_reasons.get(dump.name, 'none')}"
                )
            self._summaries.append(
                DumpSummary(
                    name=dump.name,
                    format=str(detected),
                    size=dump.size,
                    e_tag=dump.e_tag,
                    rows=rows,
                    quarantined=bad,
                    damage=self._quarantine.damage.get(dump.name, ""),
                )
            )

    def _keep_products(self, products: pl.DataFrame) -> None:
        self._counts["products"] += products.height
        self._counts["reviews_kept"] += int(products["review_count"].sum())
        self._keep_table(f"part_{len(self._tables):02d}.parquet", products)

    def _keep_table(self, name: str, table: pl.DataFrame) -> None:
        """Write a table to local disk; it goes to the lake once all dumps are read."""
        table.write_parquet(self._scratch / name, compression="zstd")
        key = f"{places.GROUPED_REVIEWS}/tables/{self._version}/{name}"
        self._tables[key] = file_sha256(self._scratch / name)
