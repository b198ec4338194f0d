"""Groups dumps into one row per product, with bounded memory."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath

import polars as pl

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import (
    Dump,
    find_dumps,
    require_same,
)
from reviewsum_assets.reviews.fields import GROUPED_SCHEMA, normalized
from reviewsum_assets.reviews.formats import Layout
from reviewsum_assets.reviews.grouped import (
    RECORD,
    TOO_FEW,
    GroupedReviews,
    ReviewCounts,
    current_grouped_reviews,
    damaged_tables,
    is_current,
    version_of,
)
from reviewsum_assets.reviews.readers import fetched_ahead, mapped_ahead, read_batches
from reviewsum_assets.reviews.rows import Quarantine
from reviewsum_assets.reviews.sources import Source, find_sources, require_mapped
from reviewsum_assets.reviews.staging import StagedReviews
from reviewsum_assets.reviews.values import Reading
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import file_sha256


@dataclass(frozen=True)
class Progress:
    """Progress of reading; bytes are those of the files as stored."""

    file: str
    rows: int
    bytes_done: int
    bytes_total: int


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


def _epoch_second(day: date) -> int:
    return int(datetime.combine(day, datetime.min.time(), UTC).timestamp())


def _remove_superseded(lake: Lake, record: GroupedReviews) -> None:
    """Remove tables of earlier results, which a killed run may have left."""
    for key in record.superseded:
        lake.delete(key)


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
        self._version = version_of(dumps, settings)
        self._quarantine = Quarantine(scratch / "quarantine.jsonl")
        self._sources: list[Source] = []
        self._tables: dict[str, str] = {}  # SHA-256 by key
        self._counts: Counter[str] = Counter()  # by field of ReviewCounts

    def group(self) -> GroupedReviews:
        """Read, group, write the tables; the caller commits the record."""
        started = time.monotonic()
        settings = self._settings
        self._sources = [found for dump in self._dumps for found in find_sources(dump, settings)]
        layouts = {source.dump.label: source.format.layout for source in self._sources}
        grouped = [label for label, found in layouts.items() if found is Layout.GROUPED_CSV]
        if grouped and len(grouped) < len(layouts):
            raise DumpError(
                f"cannot mix dumps: {', '.join(grouped)} holds grouped reviews, the other dumps "
                "raw ones. To fix: name the ones to read with --dump"
            )
        if grouped:
            self._copy_products()
        else:
            require_mapped(self._sources, settings.columns)
            self._group_reviews()
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
        too_few = [key for key in self._tables if key.endswith(TOO_FEW)]
        return GroupedReviews(
            version=self._version,
            tables=tuple(key for key in self._tables if key not in too_few),
            dumps=tuple(source.summary(self._quarantine) for source in self._sources),
            counts=ReviewCounts(**counts),
            quarantine_key=quarantine_key,
            seconds=time.monotonic() - started,
            too_few=too_few[0] if too_few else None,
            sha256=self._tables,
        )

    def _group_reviews(self) -> None:
        sizes = (source.format.unpacked_bytes(source.dump.size) for source in self._sources)
        staged = StagedReviews(self._scratch / "staged", sum(sizes))
        for usable in mapped_ahead(self._usable, self._batches()):
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
            self._keep_table(TOO_FEW, pl.concat(too_few).sort("product_id"))

    def _usable(self, batch: tuple[Source, pl.DataFrame]) -> pl.DataFrame:
        """Clean the reviews of a batch, and leave out those that the settings exclude."""
        source, fields = batch
        reviews, readings = normalized(fields, source.format.columns)
        for name, reading in readings.items():
            source.readings[name] = source.readings.get(name, Reading()).plus(reading)
        self._counts["reviews_read"] += reviews.height
        since = self._settings.reviews_since
        conditions = {
            "not_verified": pl.col("verified") if self._settings.verified_only else None,
            "too_old": pl.col("timestamp") >= _epoch_second(since) if since else None,
            "too_short": pl.col("text").str.len_chars() > self._settings.min_review_chars,
        }
        for count, condition in conditions.items():
            if condition is not None:
                before = reviews.height
                reviews = reviews.filter(condition)
                self._counts[count] += before - reviews.height
        return reviews

    def _copy_products(self) -> None:
        """Keep every product, because they were selected when they were grouped."""
        for _, products in self._batches():
            self._keep_products(products)
        self._counts["reviews_read"] = self._counts["reviews_kept"]

    def _batches(self) -> Iterator[tuple[Source, pl.DataFrame]]:
        """Yield the good rows of every dump; bad ones go to quarantine.

        Raises:
            DumpError: a dump has no good row.
        """
        bytes_before, bytes_total = 0, sum(source.dump.size for source in self._sources)
        rows_before = 0
        for source in self._sources:
            dump = source.dump
            for batch in fetched_ahead(read_batches(dump, source.format)):
                self._quarantine.add(dump.label, batch.bad)
                source.rows += batch.fields.height
                source.recoded += batch.recoded
                if self._on_progress is not None:
                    done = bytes_before + batch.bytes_done
                    rows = rows_before + source.rows
                    self._on_progress(Progress(dump.label, rows, done, bytes_total))
                if batch.fields.height:
                    yield source, batch.fields
            bytes_before += dump.size
            rows_before += source.rows
            if not source.rows:
                raise DumpError(
                    f"dump {dump.label} ({source.format}) has no readable row; "
                    f"{self._quarantine.counts[dump.label]} are bad, the first: "
                    f"{self._quarantine.first_reasons.get(dump.label, 'none')}"
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
