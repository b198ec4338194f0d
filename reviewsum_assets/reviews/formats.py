"""Tells a dump's format from its content; names and endings are not looked at."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import IO, cast

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import PRODUCT_ID, TEXT
from reviewsum_assets.reviews.staging import MEANINGFUL, MOST_ROW_LENGTH

GROUPED_FIELDS = ("product_id", "all_reviews", "review_count")

# What the standard library raises for a gzip file that is truncated or otherwise damaged.
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD_BYTES = 1 << 20
_EXPECTED = (
    "expected JSON lines of Amazon reviews (2014, 2018, 2023), the AWS review set as TSV or "
    "Parquet, a CSV of reviews with at least product_id and review_text, or a grouped CSV with "
    "product_id, all_reviews and review_count"
)


class Layout(str, Enum):
    """How a dump's rows are laid out."""

    JSON_LINES = "JSON lines"
    TSV = "TSV"
    CSV = "CSV"
    PARQUET = "Parquet"
    GROUPED_CSV = "grouped CSV"


@dataclass(frozen=True)
class Format:
    """What a dump is. ``columns`` are those of its header, none for JSON lines and Parquet."""

    layout: Layout
    gzipped: bool
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.layout.value}{', gzip' if self.gzipped else ''}"

    def unpacked_bytes(self, size: int) -> int:
        """About how many bytes a dump of ``size`` is in memory; text packs to a quarter or less."""
        return size * (4 if self.gzipped or self.layout is Layout.PARQUET else 1)


def detect_format(dump: Dump) -> Format:
    """Look at a dump's first bytes.

    Raises:
        DumpError: the dump is empty or of no known format; says what was expected and found.
    """
    with dump.open() as file:
        start = bytes(file.read(4))
        if start == _PARQUET_MAGIC:
            return Format(Layout.PARQUET, gzipped=False)
        gzipped = start.startswith(_GZIP_MAGIC)
        file.seek(0)
        head, damage = _read_head(file, gzipped=gzipped)
    head = head.removeprefix(_BYTE_ORDER_MARK)
    if not head.strip():
        found = f"cannot be unpacked ({damage})" if damage else "is empty"
        raise DumpError(f"dump {dump.name} {found}: {_EXPECTED}")
    lines = head.splitlines()
    detected = _json_lines(lines, gzipped=gzipped) or _delimited(lines[0], gzipped=gzipped)
    if detected is None:
        raise DumpError(
            f"dump {dump.name} is of unknown format: {_EXPECTED}; found {_found(lines)}"
        )
    times = Counter(field for field in detected.columns if field in MEANINGFUL)
    repeated = [field for field, count in times.items() if count > 1]
    if repeated:
        raise DumpError(
            f"dump {dump.name} ({detected}) has several columns named {' and '.join(repeated)}: "
            "rename those that are not meant"
        )
    return detected


def open_unpacked(raw: IO[bytes], detected: Format) -> IO[bytes]:
    """A dump's bytes from its opened file: unpacked, and without a byte order mark."""
    unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if detected.gzipped else raw
    try:
        mark = bytes(unpacked.read(len(_BYTE_ORDER_MARK)))
    except DAMAGE:
        mark = b""  # damaged at once: the reader will say so
    if mark != _BYTE_ORDER_MARK:
        unpacked.seek(0)
    return unpacked


def reader_of(file: IO[bytes] | gzip.GzipFile) -> Callable[[int], bytes]:
    """What reads the next bytes, up to a number: of a damaged gzip file all that come before."""
    return file.read1 if isinstance(file, gzip.GzipFile) else file.read


def _read_head(file: IO[bytes], *, gzipped: bool) -> tuple[bytes, str]:
    """The first bytes, in which a line ends if one may be so long; and why they are so few."""
    read = reader_of(gzip.GzipFile(fileobj=file) if gzipped else file)
    pieces: list[bytes] = []
    size = 0
    has_line = False
    try:
        while size < (_HEAD_BYTES if has_line else MOST_ROW_LENGTH):
            piece = read(_HEAD_BYTES)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            has_line = has_line or b"\n" in piece
    except DAMAGE as error:
        return b"".join(pieces), str(error)
    return b"".join(pieces), ""


def _json_lines(lines: list[bytes], *, gzipped: bool) -> Format | None:
    """JSON lines if any line of the head is a review; broken rows may come first."""
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and _is_review(row.keys()):
            return Format(Layout.JSON_LINES, gzipped=gzipped)
    return None


def _delimited(header: bytes, *, gzipped: bool) -> Format | None:
    text = header.decode(errors="replace")
    columns = tuple(text.rstrip("\r\n").split("\t"))
    if _is_review(columns):
        return Format(Layout.TSV, gzipped, columns)
    # Python 3.10's csv module refuses NUL characters.
    columns = tuple(next(csv.reader(io.StringIO(text.replace("\0", ""))), ()))
    if all(field in columns for field in GROUPED_FIELDS):
        return Format(Layout.GROUPED_CSV, gzipped, columns)
    if _is_review(columns):
        return Format(Layout.CSV, gzipped, columns)
    return None


def _is_review(fields: Collection[str]) -> bool:
    return any(f in fields for f in PRODUCT_ID) and any(f in fields for f in TEXT)


def _found(lines: list[bytes]) -> str:
    first = next((line for line in lines if line.strip()), b"")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return f"a first line of {first[:80].decode(errors='replace')!r}"
    if isinstance(row, dict):
        return f"JSON with the keys {', '.join(row)[:200]}"
    return f"JSON that is a {type(row).__name__}, not an object a line"
