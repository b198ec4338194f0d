"""Detects a dump's format from its content; file names are ignored."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, cast

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import MEANINGFUL, PRODUCT_ID, TEXT
from reviewsum_assets.reviews.rows import MOST_ROW_LENGTH

# Errors of the standard library for a gzip file that is truncated or otherwise damaged.
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)

_GROUPED_FIELDS = {"product_id", "all_reviews", "review_count"}
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 64 * 1024
_EXPECTED = (
    "expected JSON lines of Amazon reviews (2014, 2018, 2023), the AWS review set as TSV or "
    "Parquet, a CSV of reviews with at least product_id and review_text, or a grouped CSV with "
    "product_id, all_reviews and review_count"
)


class Layout(StrEnum):
    """Layout of a dump's rows."""

    JSON_LINES = "JSON lines"
    TSV = "TSV"
    CSV = "CSV"
    PARQUET = "Parquet"
    GROUPED_CSV = "grouped CSV"


@dataclass(frozen=True)
class Format:
    """Format of a dump; ``columns`` come from its header, if its layout has one."""

    layout: Layout
    gzipped: bool
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.layout.value}{', gzip' if self.gzipped else ''}"

    def unpacked_bytes(self, size: int) -> int:
        """Estimate the unpacked size of a dump; text packs to a quarter or less."""
        return size * (4 if self.gzipped or self.layout is Layout.PARQUET else 1)


def detect_format(dump: Dump) -> Format:
    """Detect a format from the first bytes.

    Raises:
        DumpError: the dump is empty or of unknown format, or repeats the name of a column.
    """
    with dump.open() as file:
        start = bytes(file.read(4))
        if start == _PARQUET_MAGIC:
            return Format(Layout.PARQUET, gzipped=False)
        gzipped = start.startswith(_GZIP_MAGIC)
        file.seek(0)
        head, damage = _read_head(gzip.GzipFile(fileobj=file) if gzipped else file)
    head = head.removeprefix(_BYTE_ORDER_MARK)
    if not head.strip():
        found = f"cannot be unpacked ({damage})" if damage else "is empty"
        raise DumpError(f"dump {dump.name} {found}: {_EXPECTED}")
    lines = head.splitlines()
    # Broken rows may precede the first review.
    if any(isinstance(row := _json(line), dict) and _is_review(row) for line in lines):
        return Format(Layout.JSON_LINES, gzipped)
    detected = _delimited(lines[0].decode(errors="replace"), gzipped)
    if detected is None:
        raise DumpError(
            f"dump {dump.name} is of unknown format: {_EXPECTED}; found {_described(lines)}"
        )
    times = Counter(field for field in detected.columns if field in MEANINGFUL)
    repeated = [field for field, count in times.items() if count > 1]
    if repeated:
        raise DumpError(
            f"dump {dump.name} ({detected}) has several columns named {' and '.join(repeated)}. "
            "To fix: rename those that are not meant"
        )
    return detected


def open_unpacked(raw: IO[bytes], detected: Format) -> IO[bytes]:
    """Return a dump's unpacked bytes after any byte order mark."""
    unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if detected.gzipped else raw
    try:
        mark = bytes(unpacked.read(len(_BYTE_ORDER_MARK)))
    except DAMAGE:
        mark = b""  # the reader will report it
    if mark != _BYTE_ORDER_MARK:
        unpacked.seek(0)
    return unpacked


def read_until_damage(file: IO[bytes] | gzip.GzipFile, size: int) -> tuple[bytes, str]:
    """Read up to ``size`` bytes; also return the error of a damaged gzip file."""
    # Unlike read, read1 returns all bytes before the damage.
    read = file.read1 if isinstance(file, gzip.GzipFile) else file.read
    pieces: list[bytes] = []
    try:
        while size > 0 and (piece := read(min(_PIECE_BYTES, size))):
            pieces.append(piece)
            size -= len(piece)
    except DAMAGE as error:
        return b"".join(pieces), str(error) or type(error).__name__
    return b"".join(pieces), ""


def _read_head(file: IO[bytes] | gzip.GzipFile) -> tuple[bytes, str]:
    """Read at least the first line, unless it is too long for a row."""
    head, damage = read_until_damage(file, _HEAD_BYTES)
    while b"\n" not in head and len(head) < MOST_ROW_LENGTH and not damage:
        more, damage = read_until_damage(file, len(head))
        if not more:
            break
        head += more
    return head, damage


def _json(line: bytes) -> object:
    """Parse a line; bytes if it is no JSON, which has no bytes."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line


def _delimited(header: str, gzipped: bool) -> Format | None:
    columns = tuple(header.rstrip("\r\n").split("\t"))
    if _is_review(columns):
        return Format(Layout.TSV, gzipped, columns)
    # A name of a column holds no NUL.
    columns = tuple(next(csv.reader(io.StringIO(header.replace("\0", ""))), ()))
    if set(columns) >= _GROUPED_FIELDS:
        return Format(Layout.GROUPED_CSV, gzipped, columns)
    return Format(Layout.CSV, gzipped, columns) if _is_review(columns) else None


def _is_review(fields: Collection[str]) -> bool:
    return not (set(fields).isdisjoint(PRODUCT_ID) or set(fields).isdisjoint(TEXT))


def _described(lines: list[bytes]) -> str:
    first = next(line for line in lines if line.strip())
    row = _json(first)
    if isinstance(row, bytes):
        return f"a first line of {first[:80].decode(errors='replace')!r}"
    if isinstance(row, dict):
        return f"JSON with the keys {', '.join(row)[:200]}"
    return f"JSON that is a {type(row).__name__}, not one object per line"
