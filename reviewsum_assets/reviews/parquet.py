"""Reads Parquet dumps; what polars cannot read of one is named like a bad row."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import TEXT
from reviewsum_assets.reviews.product_ids import PRODUCT_ID
from reviewsum_assets.reviews.quarantine import BREAKS_OFF, BadRow
from reviewsum_assets.reviews.raw_batch import (
    BATCH_CHARS,
    BATCH_ROWS,
    RawBatch,
    wanted,
    without_nameless,
)
from reviewsum_assets.tables import UNREADABLE, first_line

# Looked at first, to see how large rows are.
_FIRST_ROWS = 1_000


def read_parquet(dump: Dump) -> Iterator[RawBatch]:
    """Read a dump from a local copy, since polars jumps about in the file.

    Raises:
        DumpError: it is damaged, or does not hold reviews; says what it holds.
    """
    with tempfile.TemporaryDirectory(prefix="reviewsum-dump-") as scratch:
        path = Path(scratch, "dump.parquet")
        with dump.open() as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        try:
            scan = pl.scan_parquet(path, glob=False)
            schema = scan.collect_schema()
            total = scan.select(pl.len()).collect().item()
        except UNREADABLE as error:
            raise DumpError(
                f"dump {dump.name} (Parquet) cannot be read: {first_line(error)}"
            ) from error
        yield from _batches(dump, scan.select(_as_text(dump, schema)), total)


def _batches(dump: Dump, scan: pl.LazyFrame, total: int) -> Iterator[RawBatch]:
    start, rows = 0, _FIRST_ROWS
    while start < total:
        try:
            fields = scan.slice(start, rows).collect()
        except UNREADABLE as error:
            reason = f"{BREAKS_OFF}: {first_line(error)}"
            yield RawBatch(scan.clear().collect(), [BadRow.of(start + 1, reason, "")], dump.size)
            return
        numbers = range(start + 1, start + fields.height + 1)
        good, bad = without_nameless(fields, numbers, [])
        start += fields.height
        yield RawBatch(good, bad, dump.size * start // total)
        row_bytes = fields.estimated_size() / fields.height
        rows = max(1, min(BATCH_ROWS, int(BATCH_CHARS / (row_bytes + 1))))


def _as_text(dump: Dump, schema: pl.Schema) -> list[pl.Expr]:
    """The columns that mean something, as text; of lists and the like none can be made."""
    columns = [name for name in wanted(schema.names()) if not schema[name].is_nested()]
    for fields in (PRODUCT_ID, TEXT):
        if not any(name in fields for name in columns):
            found = ", ".join(f"{name!r}: {dtype}" for name, dtype in schema.items())[:200]
            raise DumpError(
                f"dump {dump.name} (Parquet) has no column of text named "
                f"{' or '.join(fields)}: found {found}"
            )
    return [pl.col(name).cast(pl.String, strict=False) for name in columns]
