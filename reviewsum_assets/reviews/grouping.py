"""From dumps to grouped reviews: one row a product, with bounded memory.

Reviews are staged on local disk in buckets of products; each bucket is then grouped by itself.
The record ``current.json`` is written last and makes the result current in one step.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from reviewsum_assets.reviews.fields import normalized
from reviewsum_assets.reviews.formats import Format, Layout, detect_format
from reviewsum_assets.reviews.grouped_csv import read_products
from reviewsum_assets.reviews.quarantine import Quarantine
from reviewsum_assets.reviews.readers import fetched_ahead, mapped_ahead, read_batches
from reviewsum_assets.reviews.staging import GROUPED_SCHEMA, RawBatch, StagedReviews
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import SealedRecord, file_sha256
from reviewsum_assets.storage.tables import UNREADABLE, as_parquet, first_line, require_columns

_GROUP_AGAIN = f"remove {places.GROUPED_REVIEWS}/current.json, and dumps are grouped again"
# Raised when reading, cleaning or grouping changes what comes out.
READER_VERSION = 3
RECORD = f"{places.GROUPED_REVIEWS}/current.json"
# Nothing else is removed as a table, whatever a record says that somebody wrote.
_Table = Annotated[
    str, Field(pattern=rf"^{places.GROUPED_REVIEWS}/tables/[\w-]+/(part_\d+|too_few)\.parquet$")
]


@dataclass(frozen=True)
class Progress:
    """How far reading is; bytes are those of the files as they lie there."""

    file: str
    rows: int
    bytes_done: int
    bytes_total: int


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DumpSummary(_Record):
    """What one dump gave; ``damage`` is where and why it breaks off, if it does."""

    name: str
    format: str
    size: int
    e_tag: str
    rows: int
    quarantined: int
    damage: str = ""


class ReviewCounts(_Record):
    """Where every review went. ``products`` is what is left of ``products_found``."""

    reviews_read: int
    too_short: int
    duplicates: int
    reviews_kept: int
    products_found: int
    products_too_small: int
    products: int
    quarantined: int


class GroupedReviews(SealedRecord):
    """The committed result of grouping."""

    version: str
    tables: tuple[_Table, ...]  # the next grouping removes them
    dumps: tuple[DumpSummary, ...]
    counts: ReviewCounts
    quarantine_key: Annotated[str, Field(pattern=rf"^{places.QUARANTINE}/[\w-]+\.jsonl$")] | None
    seconds: float
    too_few: _Table | None = None  # product_id of those with too few reviews; None: there are none
    superseded: tuple[_Table, ...] = ()  # tables of earlier results, which are to be removed
    sha256: dict[str, str]  # of each table


def current_grouped_reviews(lake: Lake) -> GroupedReviews | None:
    """The committed record, or None if there is none that can be read."""
    try:
        return GroupedReviews.unsealed(lake.get(RECORD) or b"")
    except ValueError:
        return None


def is_current(lake: Lake, settings: Settings) -> bool:
    """Whether the committed record was made from the dumps and settings of now; reads no dump."""
    record = current_grouped_reviews(lake)
    if record is None or _is_all_there_is(lake, settings):
        return record is not None
    return record.version == _version(find_dumps(lake, settings), settings)


def damaged_tables(lake: Lake, *, read: bool = True) -> list[str]:
    """Keys of the result's objects that are gone or, if they are to be read, not those written."""
    record = current_grouped_reviews(lake)
    if record is None:
        return [RECORD]
    if not read:
        keys = record.tables if record.too_few is None else (*record.tables, record.too_few)
        return [key for key in keys if lake.head(key) is None]
    return [key for key, sha256 in record.sha256.items() if lake.sha256(key) != sha256]


def scan_grouped(lake: Lake, record: GroupedReviews) -> pl.LazyFrame:
    """The grouped table: see ``staging.GROUPED_SCHEMA``; sorted by reviews within each part.

    Raises:
        DumpError: a part is gone, or is not such a table.
    """
    for key in record.tables:
        try:
            with reading_grouped(lake.uri_of(key)):
                require_columns(lake.scan_parquet(key).collect_schema(), GROUPED_SCHEMA)
        except DumpError:
            require_still_current(lake, record)
            raise
    return lake.scan_parquet(*record.tables)


@contextmanager
def reading_grouped(named: str) -> Iterator[None]:
    """Read grouped tables in this context: a scan finds damage only when it is collected.

    Raises:
        DumpError: the tables, which are named so, are damaged.
    """
    try:
        yield
    except (*UNREADABLE, OSError, ValueError) as error:
        raise DumpError(f"{named} cannot be read ({first_line(error)}): {_GROUP_AGAIN}") from error


def scan_too_few(lake: Lake, record: GroupedReviews) -> pl.LazyFrame:
    """``product_id`` of the products that were left out since they have too few reviews."""
    if record.too_few is None:
        return pl.LazyFrame(schema={"product_id": pl.String})
    return lake.scan_parquet(record.too_few)


def require_still_current(lake: Lake, record: GroupedReviews) -> None:
    """Prove that no other run has grouped since, which may have removed the tables of ``record``.

    Raises:
        DumpError: one has.
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
    """Group all dumps; the second value tells whether the result was there already, undamaged.

    Raises:
        DumpError: there is no dump, or one is empty, of unknown format or without a readable row;
            or dumps came, changed or went meanwhile.
        LakeError: a dump cannot be read, or was replaced while it was read.
    """
    before = current_grouped_reviews(lake)
    is_disk = lake.directory is not None  # S3 keeps checksums of its own
    if before is not None and is_current(lake, settings) and not damaged_tables(lake, read=is_disk):
        _remove_superseded(lake, before)
        return before, True
    dumps = find_dumps(lake, settings)
    version = _version(dumps, settings)
    with tempfile.TemporaryDirectory(prefix="reviewsum-grouping-") as scratch:
        run = _Grouping(lake, settings, dumps, version, Path(scratch), on_progress)
        record = run.group()
    before = current_grouped_reviews(lake)  # of another run, perhaps
    if before is not None:
        kept = {*record.tables, record.too_few}
        superseded = {*before.tables, *before.superseded, before.too_few} - kept - {None}
        record = record.model_copy(update={"superseded": tuple(sorted(superseded))})
    lake.put(RECORD, record.sealed())
    _remove_superseded(lake, record)
    return record, False


def _remove_superseded(lake: Lake, record: GroupedReviews) -> None:
    """Remove the tables of earlier results; whoever was killed before it is made up for."""
    for key in record.superseded:
        lake.delete(key)


def _is_all_there_is(lake: Lake, settings: Settings) -> bool:
    """Whether no dump is named now and none lies on the lake.

    What dumps named by an earlier call gave then still stands: calling again without naming them
    must not lose them.
    """
    return not settings.dumps and not has_dumps(lake)


def _version(dumps: list[Dump], settings: Settings) -> str:
    made_of = [
        listing_fingerprint(dumps),
        settings.min_review_chars,
        settings.min_reviews,
        READER_VERSION,
    ]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


@dataclass
class _Grouping:
    """One pass over all dumps; counts as it goes."""

    lake: Lake
    settings: Settings
    dumps: list[Dump]
    version: str
    scratch: Path
    on_progress: Callable[[Progress], None] | None
    _quarantine: Quarantine = field(init=False)
    _summaries: list[DumpSummary] = field(default_factory=list)
    _tables: dict[str, str] = field(default_factory=dict)  # SHA-256 of each, by key
    _too_few: list[pl.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._quarantine = Quarantine(self.scratch / "quarantine.jsonl")

    def group(self) -> GroupedReviews:
        """Read, group, write the tables; the caller commits the record."""
        started = time.monotonic()
        formats = [detect_format(dump) for dump in self.dumps]
        are_grouped = [found.layout is Layout.GROUPED_CSV for found in formats]
        if any(are_grouped) and not all(are_grouped):
            names = [
                dump.name for dump, is_it in zip(self.dumps, are_grouped, strict=True) if is_it
            ]
            raise DumpError(
                f"{', '.join(names)} holds grouped reviews, the other dumps raw ones: they cannot "
                "be mixed; name the ones to read with --dump"
            )
        counts = self._copy_products(formats) if all(are_grouped) else self._group_reviews(formats)
        if not self._tables:  # no review was left
            self._keep_table(pl.DataFrame(schema=GROUPED_SCHEMA))
        # Not a moment before: tables of this version may be the current ones.
        require_same(self.dumps, find_dumps(self.lake, self.settings))
        for key in self._tables:
            self.lake.put_file(key, self.scratch / PurePosixPath(key).name)
        too_few = self._put_too_few()
        return GroupedReviews(
            version=self.version,
            tables=tuple(self._tables),
            dumps=tuple(self._summaries),
            counts=counts,
            quarantine_key=self._put_quarantine(),
            seconds=time.monotonic() - started,
            too_few=too_few[0] if too_few else None,
            sha256=self._tables | dict([too_few] if too_few else []),
        )

    def _group_reviews(self, formats: list[Format]) -> ReviewCounts:
        sizes = [
            found.unpacked_bytes(dump.size) for dump, found in zip(self.dumps, formats, strict=True)
        ]
        staged = StagedReviews(self.scratch / "staged", sum(sizes))
        read = long_enough = 0
        for reviews, kept in mapped_ahead(self._usable, self._frames(formats, read_batches)):
            read += reviews
            long_enough += kept.height
            staged.add(kept)
        duplicates = reviews_kept = found = products = 0
        for bucket in staged.grouped(self.settings.min_reviews):
            self._keep_table(bucket.products)
            self._too_few.append(bucket.too_few)
            duplicates += bucket.duplicates
            reviews_kept += bucket.reviews
            found += bucket.products_found
            products += bucket.products.height
        return ReviewCounts(
            reviews_read=read,
            too_short=read - long_enough,
            duplicates=duplicates,
            reviews_kept=reviews_kept,
            products_found=found,
            products_too_small=found - products,
            products=products,
            quarantined=self._quarantine.counts.total(),
        )

    def _usable(self, fields: pl.DataFrame) -> tuple[int, pl.DataFrame]:
        """How many reviews there are, and those that are long enough."""
        reviews = normalized(fields)
        is_long = pl.col("text").str.len_chars() > self.settings.min_review_chars
        return reviews.height, reviews.filter(is_long)

    def _copy_products(self, formats: list[Format]) -> ReviewCounts:
        """Take over every product: whoever grouped them has chosen them already."""
        reviews = products = 0
        for frame in self._frames(formats, read_products):
            self._keep_table(frame)
            reviews += int(frame["review_count"].sum())
            products += frame.height
        return ReviewCounts(
            reviews_read=reviews,
            too_short=0,
            duplicates=0,
            reviews_kept=reviews,
            products_found=products,
            products_too_small=0,
            products=products,
            quarantined=self._quarantine.counts.total(),
        )

    def _frames(
        self, formats: list[Format], read: Callable[[Dump, Format], Iterator[RawBatch]]
    ) -> Iterator[pl.DataFrame]:
        """The good rows of every dump; bad ones go to quarantine.

        Raises:
            DumpError: a dump has no good row.
        """
        bytes_before, bytes_total = 0, sum(dump.size for dump in self.dumps)
        rows_before = 0
        for dump, detected in zip(self.dumps, formats, strict=True):
            rows = 0
            for batch in fetched_ahead(read(dump, detected)):
                self._quarantine.add(dump.name, batch.bad)
                rows += batch.fields.height
                if self.on_progress is not None:
                    done = bytes_before + batch.bytes_done
                    self.on_progress(Progress(dump.name, rows_before + rows, done, bytes_total))
                if batch.fields.height:
                    yield batch.fields
            bytes_before += dump.size
            rows_before += rows
            bad = self._quarantine.counts[dump.name]
            if not rows:
                raise DumpError(
                    f"dump {dump.name} ({detected}) has no readable row; {bad} are bad, the first: "
                    f"{self._quarantine.first_reason(dump.name)}"
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

    def _keep_table(self, products: pl.DataFrame) -> None:
        """Write a table to local disk; it goes to the lake once all dumps are read."""
        path = self.scratch / f"part_{len(self._tables):02d}.parquet"
        products.write_parquet(path, compression="zstd")
        self._tables[f"{places.GROUPED_REVIEWS}/tables/{self.version}/{path.name}"] = file_sha256(
            path
        )

    def _put_too_few(self) -> tuple[str, str] | None:
        """Key and SHA-256 of the table, if there is any such product."""
        if not any(frame.height for frame in self._too_few):
            return None
        key = f"{places.GROUPED_REVIEWS}/tables/{self.version}/too_few.parquet"
        content = as_parquet(pl.concat(self._too_few).sort("product_id"))
        self.lake.put(key, content)
        return key, hashlib.sha256(content).hexdigest()

    def _put_quarantine(self) -> str | None:
        if not self._quarantine.counts:
            return None
        key = f"{places.QUARANTINE}/{self.version}.jsonl"
        self.lake.put_file(key, self._quarantine.path)
        return key
