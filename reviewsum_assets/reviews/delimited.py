"""Splits CSV and TSV into rows, and names each line that is no row.

An unclosed quote makes the csv module read the rest of the file as one field, DuckDB reject it as
one row, and polars refuse the file. So the length of a row is limited, and where a row of several
lines is malformed, only its first line is bad: the others are read again.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, TextIO

import polars as pl

from reviewsum_assets.reviews.fields import MEANINGFUL
from reviewsum_assets.reviews.formats import DAMAGE
from reviewsum_assets.reviews.rows import (
    BATCH_CHARS,
    BATCH_ROWS,
    BREAKS_OFF,
    MOST_ROW_LENGTH,
    TOO_LONG,
    BadRow,
    Parsed,
)

# The csv module refuses fields above 128 KiB by default.
csv.field_size_limit(2**31 - 1)
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")

CsvRow = tuple[int, list[str]]  # number of its first line, fields


def read_csv(file: IO[bytes], columns: Sequence[str]) -> Iterator[Parsed]:
    """Read CSV with quoting in batches of bounded size; a row may span lines."""
    # Bytes that are not UTF-8 become surrogates, so that only their row is bad.
    with io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="") as text:
        rows: list[list[str]] = []
        lines: list[int] = []
        bad: list[BadRow] = []
        chars = 0
        for row in csv_rows(text, len(columns)):
            if isinstance(row, BadRow):
                bad.append(row)
            elif any(map(_ESCAPED_BYTES.search, row[1])):
                bad.append(BadRow.of(row[0], "not UTF-8", ",".join(row[1])))
            else:
                lines.append(row[0])
                rows.append(row[1])
                chars += sum(map(len, row[1]))
            if len(rows) + len(bad) >= BATCH_ROWS or chars >= BATCH_CHARS:
                yield Parsed(_frame(rows, columns), lines, bad)
                rows, lines, bad, chars = [], [], [], 0
        yield Parsed(_frame(rows, columns), lines, bad)


def csv_rows(text: TextIO, width: int) -> Iterator[CsvRow | BadRow]:
    """Yield the rows after the header; empty lines are skipped.

    Args:
        text: opened with ``newline=""``.
        width: number of fields per row.
    """
    lines = _Lines(text)
    reader = csv.reader(lines)
    next(reader, None)
    lines.end_row()
    while True:
        reason = None
        fields: list[str] | None = []
        try:
            fields = next(reader, None)
        except _RowTooLongError:
            reason = TOO_LONG
        if fields is None:
            break
        if reason is None and fields and len(fields) != width:
            reason = f"{len(fields)} columns instead of {width}"
        elif reason is None and len(lines.of_row) > 1 and not _is_well_formed(lines.of_row):
            reason = "a quote ends within a field, or not at all"
        if reason is not None:
            yield lines.reject(reason)
        elif fields:
            yield lines.first, fields
        lines.end_row()
    if lines.damage:
        yield BadRow.of(lines.first, f"{BREAKS_OFF}: {lines.damage}", "")


def parse_tsv(lines: Sequence[bytes], first: int, columns: Sequence[str]) -> Parsed:
    """Parse TSV without quoting: a tab always separates, a line always ends a row.

    Args:
        lines: without line ends.
        first: number of the first of them; line 1 is the header.
        columns: names from the header.
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
            bad.append(BadRow.of(number, f"not UTF-8: {error.reason}", line))
            continue
        found = text.count("\t") + 1
        if found != len(columns):
            reason = f"{found} columns instead of {len(columns)}"
            bad.append(BadRow.of(number, reason, text))
            continue
        numbers.append(number)
        good.append(text)
    split = pl.col("line").str.split_exact("\t", len(columns) - 1).struct
    fields = pl.DataFrame({"line": good}, schema={"line": pl.String}).select(
        split.field(f"field_{place}").alias(name) for name, place in _places(columns).items()
    )
    return Parsed(fields, numbers, bad)


def _places(columns: Sequence[str]) -> dict[str, int]:
    """Return the positions of meaningful columns; others may share a name."""
    return {name: place for place, name in enumerate(columns) if name in MEANINGFUL}


def _frame(rows: list[list[str]], columns: Sequence[str]) -> pl.DataFrame:
    schema = dict.fromkeys(map(str, range(len(columns))), pl.String)
    fields = pl.DataFrame(rows, schema=schema, orient="row")
    return fields.select(pl.col(str(at)).alias(name) for name, at in _places(columns).items())


def _is_well_formed(lines: Sequence[str]) -> bool:
    """Whether every quoted field ends where its quote does."""
    try:
        for _ in csv.reader(lines, strict=True):
            pass
    except csv.Error:
        return False
    return True


class _RowTooLongError(Exception):
    pass


class _Lines:
    """Lines for the csv module, and the state of the row that it is reading."""

    def __init__(self, text: TextIO) -> None:
        self.of_row: list[str] = []
        self.damage = ""
        self._text = text
        self._again: deque[str] = deque()
        self._number = 0
        self._again_until = 0
        self._chars = 0

    @property
    def first(self) -> int:
        """Number of the row's first line."""
        return self._number - len(self.of_row) + 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self._number += 1
        self.of_row.append(line)
        self._chars += len(line)
        if self._chars > MOST_ROW_LENGTH:
            raise _RowTooLongError
        return line

    def end_row(self) -> None:
        """Begin another row with the next line."""
        self.of_row = []
        self._chars = 0

    def reject(self, reason: str) -> BadRow:
        """Return the row as bad; its lines after the first are read again, each at most once.

        In a malicious file every line could belong to as many bad rows as there are lines.
        """
        first, last, begins = self.first, self._number, self.of_row[0]
        if last > first and first <= self._again_until:
            reason = f"{reason}, up to line {last}"
        elif last > first:
            self._again.extendleft(reversed(self.of_row[1:]))
            self._again_until = last
            self._number = first
        return BadRow.of(first, reason, begins)

    def _read(self) -> str:
        if self.damage:
            return ""
        try:
            line = self._text.readline(MOST_ROW_LENGTH + 1)
            end = line
            while len(end) > MOST_ROW_LENGTH and not end.endswith("\n"):
                end = self._text.readline(MOST_ROW_LENGTH + 1)
        except DAMAGE as error:
            self.damage = str(error)
            return ""
        return line
