"""Reads a dump in batches of raw fields, telling bad rows apart line by line.

Batches are parsed by polars at once. Only where a batch holds something unreadable are its lines
looked at one by one, so that every bad row is named exactly and good dumps stay fast.
"""

from __future__ import annotations

import csv
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from reviewsum_assets.reviews import json_lines
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import PRODUCT_ID, RAW_FIELDS, TEXT
from reviewsum_assets.reviews.formats import Format, Layout, open_text
from reviewsum_assets.reviews.quarantine import BadRow

BATCH_BYTES = 32 * 1024 * 1024
_BATCH_ROWS = 100_000
_BATCH_CHARS = 64 * 1024 * 1024

csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class RawBatch:
    """Some rows of a dump: string columns named as in the dump, and the rows that are none.

    A grouped CSV keeps all its columns and has one more, ``line``. ``bytes_done`` is the position
    in the dump's file.
    """

    fields: pl.DataFrame
    bad: list[BadRow]
    bytes_done: int


def read_batches(dump: Dump, detected: Format) -> Iterator[RawBatch]:
    """Read a dump from start to end with bounded memory."""
    if detected.layout is Layout.PARQUET:
        yield from _read_parquet(dump)
        return
    raw, unpacked = open_text(dump, detected)
    with raw:
        if detected.layout is Layout.JSON_LINES:
            for lines, first, damage in _line_batches(unpacked):
                fields, bad = json_lines.parse(lines, first)
                yield RawBatch(fields, [*bad, *damage], raw.tell())
        elif detected.layout is Layout.TSV:
            for lines, first, damage in _line_batches(unpacked):
                fields, bad = _parse_tsv(lines, first, detected.columns)
                yield RawBatch(fields, [*bad, *damage], raw.tell())
        else:
            for fields, bad in _read_csv(unpacked, detected):
                yield RawBatch(fields, bad, raw.tell())


def _line_batches(file: IO[bytes]) -> Iterator[tuple[list[bytes], int, list[BadRow]]]:
    """Lines, the number of the first of them, and what is damaged behind them."""
    number = 1
    rest = b""
    while True:
        block, damage = _read_block(file)
        content = rest + block
        whole, newline, rest = content.rpartition(b"\n")
        if not block and rest:
            whole, newline, rest = rest, b"\n", b""
        lines = whole.split(b"\n") if newline else []
        bad = [BadRow(number + len(lines), damage, "")] if damage else []
        if lines or bad:
            yield lines, number, bad
        number += len(lines)
        if not block:
            return


def _read_block(file: IO[bytes]) -> tuple[bytes, str]:
    """The next block, or nothing and why there is no more although there should be."""
    try:
        return bytes(file.read(BATCH_BYTES)), ""
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return b"", f"the gzip file is damaged from about here on: {error}"


def _parse_tsv(
    lines: Sequence[bytes], first: int, columns: Sequence[str]
) -> tuple[pl.DataFrame, list[BadRow]]:
    """TSV without quoting: a tab always separates, a line always ends a row."""
    bad: list[BadRow] = []
    numbers: list[int] = []
    good: list[str] = []
    for number, line in enumerate(lines, first):
        if number == 1 or not line.strip():
            continue  # the header
        try:
            text = line.rstrip(b"\r").decode()
        except UnicodeDecodeError as error:
            bad.append(BadRow(number, f"not UTF-8: {error.reason}", _escaped(line)))
            continue
        found = text.count("\t") + 1
        if found != len(columns):
            bad.append(BadRow(number, f"{found} columns instead of {len(columns)}", text))
            continue
        numbers.append(number)
        good.append(text)
    fields = (
        pl.DataFrame({"line": good}, schema={"line": pl.String})
        .select(pl.col("line").str.split_exact("\t", len(columns) - 1).struct.unnest())
        .rename({f"field_{index}": name for index, name in enumerate(columns)})
    )
    return _without_products(fields.select(_wanted(columns)), numbers, bad)


def _read_csv(file: IO[bytes], detected: Format) -> Iterator[tuple[pl.DataFrame, list[BadRow]]]:
    """CSV with quoting; a row may span lines and is named by its last one."""
    columns = detected.columns
    # Bytes that are no UTF-8 stay recognizable, so that they spoil their row only.
    text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
    # Python 3.10's csv module refuses NUL characters.
    reader = csv.reader(line.replace("\0", "") for line in text)
    next(reader)
    rows: list[list[str]] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    chars = 0
    while True:
        damage = ""
        try:
            row = next(reader, None)
        except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
            row, damage = None, f"the file is damaged from about here on: {error}"
        if damage:
            bad.append(BadRow(reader.line_num + 1, damage, ""))
        if row is None or len(rows) >= _BATCH_ROWS or chars >= _BATCH_CHARS:
            frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
            if detected.layout is Layout.GROUPED_CSV:
                yield frame.with_columns(line=pl.Series(numbers, dtype=pl.Int64)), bad
            else:
                yield _without_products(frame.select(_wanted(columns)), numbers, bad)
            rows, numbers, bad, chars = [], [], [], 0
        if row is None:
            return
        if not row:
            continue
        if len(row) != len(columns):
            reason = f"{len(row)} columns instead of {len(columns)}"
            bad.append(BadRow(reader.line_num, reason, ",".join(row)))
        elif any(_has_surrogates(field) for field in row):
            bad.append(BadRow(reader.line_num, "not UTF-8", ",".join(row)))
        else:
            rows.append(row)
            chars += sum(map(len, row))
            numbers.append(reader.line_num)


def _read_parquet(dump: Dump) -> Iterator[RawBatch]:
    with tempfile.TemporaryDirectory(prefix="reviewsum-dump-") as scratch:
        path = Path(scratch, "dump.parquet")
        with dump.open() as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        scan = pl.scan_parquet(path)
        columns = _wanted(scan.collect_schema().names())
        rows = scan.select(pl.len()).collect().item()
        for start in range(0, rows, _BATCH_ROWS):
            fields = (
                scan.slice(start, _BATCH_ROWS)
                .select(pl.col(columns).cast(pl.String, strict=False))
                .collect()
            )
            numbers = range(start + 1, start + fields.height + 1)
            good, bad = _without_products(fields, numbers, [])
            done = dump.size * min(rows, start + _BATCH_ROWS) // rows
            yield RawBatch(good, bad, done)


def _wanted(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name in RAW_FIELDS]


def _without_products(
    fields: pl.DataFrame, numbers: Sequence[int], bad: list[BadRow]
) -> tuple[pl.DataFrame, list[BadRow]]:
    """Take out rows that name no product."""
    named = pl.any_horizontal(
        pl.col(name).str.strip_chars().fill_null("") != ""
        for name in PRODUCT_ID
        if name in fields.columns
    )
    nameless = fields.select(pl.arg_where(~named)).to_series()
    if nameless.is_empty():
        return fields, bad
    texts = fields.select(pl.coalesce(name for name in TEXT if name in fields.columns))
    found = [
        BadRow(numbers[index], "no product id", texts.item(index, 0) or "") for index in nameless
    ]
    return fields.filter(named), sorted([*bad, *found], key=lambda row: row.line)


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def _escaped(line: bytes) -> str:
    return line.decode(errors="backslashreplace")
