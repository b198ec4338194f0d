"""Lets the steps of a loop overlap: each works on one item while another has the next.

Steps run in threads, so it is worth it only where they leave Python's lock to others, as polars
does. Items keep their order; what a step raises is raised where its item would have come.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import polars as pl

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.delimited import parse_tsv, read_csv
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import PRODUCT_ID, TEXT
from reviewsum_assets.reviews.formats import DAMAGE, Format, Layout, open_unpacked, reader_of
from reviewsum_assets.reviews.json_lines import parse_json_lines
from reviewsum_assets.reviews.quarantine import BREAKS_OFF, BadRow
from reviewsum_assets.reviews.staging import (
    BATCH_CHARS,
    BATCH_ROWS,
    MOST_ROW_LENGTH,
    TOO_LONG,
    RawBatch,
    wanted,
    without_nameless,
)
from reviewsum_assets.storage.tables import UNREADABLE, first_line

Item = TypeVar("Item")
Made = TypeVar("Made")

_END = object()


def fetched_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, the next being fetched while the caller works on the one it has."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, iterator, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(next, iterator, _END)
            yield item  # type: ignore[misc]  # anything but the end is an item


def mapped_ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """``function`` of each item, called while the caller fetches the next or works on the last."""
    with ThreadPoolExecutor(1) as thread:
        earlier: Future[Made] | None = None
        for item in items:
            later = thread.submit(function, item)
            if earlier is not None:
                yield earlier.result()
            earlier = later
        if earlier is not None:
            yield earlier.result()


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


BATCH_BYTES = 32 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
_MOST_LINES = 200_000


def read_batches(dump: Dump, detected: Format) -> Iterator[RawBatch]:
    """Read a dump from start to end with bounded memory."""
    if detected.layout is Layout.PARQUET:
        yield from read_parquet(dump)
        return
    with dump.open() as raw, open_unpacked(raw, detected) as file:
        if detected.layout in (Layout.CSV, Layout.GROUPED_CSV):
            for part in read_csv(file, detected.columns):
                fields, bad = part.frame, part.bad
                if detected.layout is Layout.CSV:
                    fields, bad = without_nameless(fields, part.lines, bad)
                yield RawBatch(fields, bad, _position(raw, dump))
            return
        for lines, first, other_bad in _line_batches(file):
            if detected.layout is Layout.TSV:
                fields, bad = parse_tsv(lines, first, detected.columns)
            else:
                fields, bad = parse_json_lines(lines, first)
            yield RawBatch(fields, [*other_bad, *bad], _position(raw, dump))


def _position(raw: IO[bytes], dump: Dump) -> int:
    return dump.size if raw.closed else raw.tell()


def _line_batches(file: IO[bytes]) -> Iterator[tuple[list[bytes], int, list[BadRow]]]:
    """Whole lines, the number of the first of them, and what is bad among and behind them."""
    number = 1
    rest = b""
    ended = False
    while not ended:
        block, damage = _read_block(file)
        ended = bool(damage) or not block
        lines = (rest + block).split(b"\n")
        # Of a row that is too long no more is kept than shows that it is.
        rest = lines.pop()[: MOST_ROW_LENGTH + 1]
        if ended and rest and not damage:  # a last line without an end
            lines.append(rest)
        bad = []
        if lines and len(lines[0]) > MOST_ROW_LENGTH:
            bad.append(BadRow.of(number, TOO_LONG, lines[0]))
            lines[0] = b""
        # A block of hardly more than line ends would be too much for whoever parses it.
        for start in range(0, len(lines), _MOST_LINES):
            yield lines[start : start + _MOST_LINES], number + start, bad
            bad = []
        number += len(lines)
        if damage:
            yield [], number, [BadRow.of(number, damage, rest)]


def _read_block(file: IO[bytes]) -> tuple[bytes, str]:
    """The next block, and why there is no more behind it although there should be."""
    pieces: list[bytes] = []
    size = 0
    read = reader_of(file)
    try:
        while size < BATCH_BYTES:
            piece = read(min(_PIECE_BYTES, BATCH_BYTES - size))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
    except DAMAGE as error:
        return b"".join(pieces), f"{BREAKS_OFF}: {error}"
    return b"".join(pieces), ""
