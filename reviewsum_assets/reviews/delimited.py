"""Parses TSV and CSV into raw fields, naming each row that does not fit the header."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import polars as pl

from reviewsum_assets.reviews.quarantine import BadRow
from reviewsum_assets.reviews.raw_batch import BATCH_ROWS, wanted, without_nameless

# A grouped CSV has few rows and much text in each.
_BATCH_CHARS = 64 * 1024 * 1024

csv.field_size_limit(2**31 - 1)


def parse_tsv(
    lines: Sequence[bytes], first: int, columns: Sequence[str]
) -> tuple[pl.DataFrame, list[BadRow]]:
    """Parse lines of TSV without quoting: a tab always separates, a line always ends a row.

    Args:
        lines: without line ends.
        first: the number of the first of them; line 1 is the header.
        columns: of the header.
    """
    bad: list[BadRow] = []
    numbers: list[int] = []
    good: list[str] = []
    for number, line in enumerate(lines, first):
        if number == 1 or not line.strip():
            continue
        try:
            text = line.rstrip(b"\r").decode()
        except UnicodeDecodeError as error:
            content = line.decode(errors="backslashreplace")
            bad.append(BadRow(number, f"not UTF-8: {error.reason}", content))
            continue
        found = text.count("\t") + 1
        if found != len(columns):
            bad.append(BadRow(number, _wrong_width(found, columns), text))
            continue
        numbers.append(number)
        good.append(text)
    fields = (
        pl.DataFrame({"line": good}, schema={"line": pl.String})
        .select(pl.col("line").str.split_exact("\t", len(columns) - 1).struct.unnest())
        .rename({f"field_{index}": name for index, name in enumerate(columns)})
    )
    return without_nameless(fields.select(wanted(columns)), numbers, bad)


@dataclass
class CsvRows:
    """Rows of a CSV that fit its header, as strings, with the line each ends on."""

    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    chars: int = 0

    def add(self, row: list[str], line: int) -> None:
        """Take a row, or set it aside."""
        if len(row) != len(self.columns):
            self.bad.append(BadRow(line, _wrong_width(len(row), self.columns), ",".join(row)))
        elif any(map(_has_escaped_bytes, row)):
            self.bad.append(BadRow(line, "not UTF-8", ",".join(row)))
        else:
            self.rows.append(row)
            self.lines.append(line)
            self.chars += sum(map(len, row))

    @property
    def is_full(self) -> bool:
        """Whether these are enough rows to go on with."""
        return len(self.rows) >= BATCH_ROWS or self.chars >= _BATCH_CHARS

    @property
    def frame(self) -> pl.DataFrame:
        """The rows, with one more column ``line``."""
        fields = pl.DataFrame(
            self.rows, schema=dict.fromkeys(self.columns, pl.String), orient="row"
        )
        return fields.with_columns(line=pl.Series(self.lines, dtype=pl.Int64))


def read_csv(file: IO[bytes], columns: Sequence[str]) -> Iterator[CsvRows]:
    """Read CSV with quoting, a bounded part at a time; a row may span lines."""
    # Bytes that are no UTF-8 stay recognizable, so that they spoil their row only.
    with io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="") as text:
        # Python 3.10's csv module refuses NUL characters.
        reader = csv.reader(line.replace("\0", "") for line in text)
        part = CsvRows(columns)
        try:
            next(reader)  # the header
            for row in reader:
                if row:
                    part.add(row, reader.line_num)
                if part.is_full:
                    yield part
                    part = CsvRows(columns)
        except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
            reason = f"the file is damaged from about here on: {error}"
            part.bad.append(BadRow(reader.line_num + 1, reason, ""))
        yield part


def _wrong_width(found: int, columns: Sequence[str]) -> str:
    return f"{found} columns instead of {len(columns)}"


def _has_escaped_bytes(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
