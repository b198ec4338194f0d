"""Splits CSV with quoting into rows, however badly its quotes are set.

To the csv module a quote that nobody closes is a field that holds the rest of the file. So a row
may only be so long; and where a row of several lines makes no sense, its first line alone is bad:
the others are read again, as rows of their own.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, NamedTuple, TextIO

import polars as pl

from reviewsum_assets.reviews.formats import DAMAGE
from reviewsum_assets.reviews.quarantine import BREAKS_OFF, BadRow
from reviewsum_assets.reviews.staging import (
    BATCH_CHARS,
    BATCH_ROWS,
    MOST_ROW_LENGTH,
    TOO_LONG,
    wanted,
    without_nameless,
)

# The csv module refuses fields above 128 KiB unless told otherwise.
csv.field_size_limit(2**31 - 1)

# Python 3.10's csv module refuses NUL characters.
_NO_NUL = {0: "\x1a"}  # the control character that stands for another


class CsvRow(NamedTuple):
    """A row, and the line that it begins on."""

    line: int
    fields: list[str]


def csv_rows(text: TextIO, width: int) -> Iterator[CsvRow | BadRow]:
    """The rows behind the header; empty lines are passed over.

    Args:
        text: opened with ``newline=""``.
        width: how many fields a row has.
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
        except _RowTooLong:
            reason = TOO_LONG
        if fields is None:
            break
        if reason is None and (len(fields) != width or len(lines.of_row) > 1):
            reason = _what_is_wrong(fields, width, lines.of_row)
        if reason is not None:
            yield lines.give_back(reason)
        elif fields:
            yield CsvRow(lines.first, fields)
        lines.end_row()
    if lines.damage:
        yield BadRow.of(lines.first, f"{BREAKS_OFF}: {lines.damage}", "")


def _what_is_wrong(fields: Sequence[str], width: int, lines: Sequence[str]) -> str | None:
    if fields and len(fields) != width:
        return f"{len(fields)} columns instead of {width}"
    if len(lines) > 1 and not _is_well_formed(lines):
        return "a quote ends within a field, or not at all"
    return None


def _is_well_formed(lines: Sequence[str]) -> bool:
    """Whether every quoted field ends where its quote does."""
    try:
        for _ in csv.reader(lines, strict=True):
            pass
    except csv.Error:
        return False
    return True


class _RowTooLong(Exception):  # noqa: N818 - the row is at fault, and it is only passed over
    pass


class _Lines:
    """Lines for the csv module, and what is known of the row it is reading."""

    def __init__(self, text: TextIO) -> None:
        self.of_row: list[str] = []
        self.damage = ""
        self._text = text
        self._again: deque[str] = deque()
        self._number = 0
        self._given_back_to = 0
        self._chars = 0

    @property
    def first(self) -> int:
        """Number of the line that the row begins on."""
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
            raise _RowTooLong
        return line

    def end_row(self) -> None:
        """The next line begins another row."""
        self.of_row = []
        self._chars = 0

    def give_back(self, reason: str) -> BadRow:
        """The row is bad: its lines but the first are read again, though none more than once.

        A file can be made in which every line is within as many bad rows as there are lines.
        """
        first, last, begins = self.first, self._number, self.of_row[0]
        if last == first:
            return BadRow.of(first, reason, begins)
        if first <= self._given_back_to:
            return BadRow.of(first, f"{reason}, up to line {last}", begins)
        self._again.extendleft(reversed(self.of_row[1:]))
        self._given_back_to = last
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
        return line.translate(_NO_NUL) if "\0" in line else line


_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")


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
            bad.append(BadRow.of(number, f"not UTF-8: {error.reason}", line))
            continue
        found = text.count("\t") + 1
        if found != len(columns):
            reason = f"{found} columns instead of {len(columns)}"
            bad.append(BadRow.of(number, reason, text))
            continue
        numbers.append(number)
        good.append(text)
    # Fields by their place: two columns that mean nothing may have the same name.
    places = {name: columns.index(name) for name in wanted(columns)}
    split = pl.col("line").str.split_exact("\t", len(columns) - 1).struct
    fields = pl.DataFrame({"line": good}, schema={"line": pl.String}).select(
        split.field(f"field_{place}").alias(name) for name, place in places.items()
    )
    return without_nameless(fields, numbers, bad)


@dataclass
class CsvRows:
    """Rows of a CSV, as strings, with the line each begins on, and those that are none."""

    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    chars: int = 0

    def add(self, row: CsvRow | BadRow) -> None:
        """Take a row, or set it aside."""
        if isinstance(row, BadRow):
            self.bad.append(row)
        elif any(map(_ESCAPED_BYTES.search, row.fields)):
            self.bad.append(BadRow.of(row.line, "not UTF-8", ",".join(row.fields)))
        else:
            self.rows.append(row.fields)
            self.lines.append(row.line)
            self.chars += sum(map(len, row.fields))

    @property
    def is_full(self) -> bool:
        """Whether these are enough rows to go on with."""
        return len(self.rows) + len(self.bad) >= BATCH_ROWS or self.chars >= BATCH_CHARS

    @property
    def frame(self) -> pl.DataFrame:
        """The columns that mean something, and one more, ``line``."""
        # By their place: two columns that mean nothing may have the same name.
        places = [str(place) for place in range(len(self.columns))]
        fields = pl.DataFrame(self.rows, schema=dict.fromkeys(places, pl.String), orient="row")
        return fields.select(
            *(pl.col(str(self.columns.index(name))).alias(name) for name in wanted(self.columns)),
            line=pl.Series(self.lines, dtype=pl.Int64),
        )


def read_csv(file: IO[bytes], columns: Sequence[str]) -> Iterator[CsvRows]:
    """Read CSV with quoting, a bounded part at a time; a row may span lines."""
    # Bytes that are no UTF-8 stay recognizable, so that they spoil their row only.
    with io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="") as text:
        part = CsvRows(columns)
        for row in csv_rows(text, len(columns)):
            part.add(row)
            if part.is_full:
                yield part
                part = CsvRows(columns)
        yield part
