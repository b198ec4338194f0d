"""Reads a dump in batches of raw fields, telling bad rows apart line by line.

Batches are parsed by polars at once. Only where a batch holds something unreadable are its lines
looked at one by one, so that every bad row is named exactly and good dumps stay fast.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import polars as pl

from reviewsum_assets.reviews.delimited import parse_tsv, read_csv
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.formats import Format, Layout, open_unpacked
from reviewsum_assets.reviews.json_lines import parse_json_lines
from reviewsum_assets.reviews.quarantine import BadRow
from reviewsum_assets.reviews.raw_batch import BATCH_ROWS, RawBatch, wanted, without_nameless

BATCH_BYTES = 32 * 1024 * 1024
# What is lost at most where a gzip file is damaged.
_PIECE_BYTES = 64 * 1024


def read_batches(dump: Dump, detected: Format) -> Iterator[RawBatch]:
    """Read a dump from start to end with bounded memory."""
    if detected.layout is Layout.PARQUET:
        yield from _read_parquet(dump)
        return
    with dump.open() as raw, open_unpacked(raw, detected) as file:
        if detected.layout in (Layout.CSV, Layout.GROUPED_CSV):
            for part in read_csv(file, detected.columns):
                fields, bad = part.frame, part.bad
                if detected.layout is Layout.CSV:
                    fields = fields.select(wanted(detected.columns))
                    fields, bad = without_nameless(fields, part.lines, bad)
                yield RawBatch(fields, bad, _position(raw, dump))
            return
        for lines, first, damage in _line_batches(file):
            if detected.layout is Layout.TSV:
                fields, bad = parse_tsv(lines, first, detected.columns)
            else:
                fields, bad = parse_json_lines(lines, first)
            yield RawBatch(fields, [*bad, *damage], _position(raw, dump))


def _position(raw: IO[bytes], dump: Dump) -> int:
    return dump.size if raw.closed else raw.tell()


def _line_batches(file: IO[bytes]) -> Iterator[tuple[list[bytes], int, list[BadRow]]]:
    """Whole lines, the number of the first of them, and what is damaged behind them."""
    number = 1
    rest = b""
    ended = False
    while not ended:
        block, damage = _read_block(file)
        ended = bool(damage) or not block
        lines = block.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()
        if ended and rest and not damage:  # a last line without an end
            lines.append(rest)
        bad = []
        if damage:
            bad = [BadRow(number + len(lines), damage, rest.decode(errors="backslashreplace"))]
        if lines or bad:
            yield lines, number, bad
        number += len(lines)


def _read_block(file: IO[bytes]) -> tuple[bytes, str]:
    """The next block, and why there is no more behind it although there should be."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size < BATCH_BYTES:
            piece = bytes(file.read(min(_PIECE_BYTES, BATCH_BYTES - size)))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return b"".join(pieces), f"the gzip file is damaged from about here on: {error}"
    return b"".join(pieces), ""


def _read_parquet(dump: Dump) -> Iterator[RawBatch]:
    """Parquet is read from a local copy, since its reader jumps about in the file."""
    with tempfile.TemporaryDirectory(prefix="reviewsum-dump-") as scratch:
        path = Path(scratch, "dump.parquet")
        with dump.open() as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        scan = pl.scan_parquet(path)
        columns = wanted(scan.collect_schema().names())
        rows = scan.select(pl.len()).collect().item()
        for start in range(0, rows, BATCH_ROWS):
            fields = (
                scan.slice(start, BATCH_ROWS)
                .select(pl.col(columns).cast(pl.String, strict=False))
                .collect()
            )
            numbers = range(start + 1, start + fields.height + 1)
            good, bad = without_nameless(fields, numbers, [])
            yield RawBatch(good, bad, dump.size * (start + fields.height) // rows)
