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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TextIO

import polars as pl

from reviewsum_assets.reviews.containers import DamagedError
from reviewsum_assets.reviews.rows import (
    BATCH_CHARS,
    BATCH_ROWS,
    BREAKS_OFF,
    MOST_ROW_LENGTH,
    TOO_LONG,
    BadRow,
    Parsed,
    as_windows_1252,
)

# The csv module refuses fields above 128 KiB by default.
csv.field_size_limit(2**31 - 1)
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")
_BACKSLASHED = re.compile(r"\\([\\\"])")

CsvRow = tuple[int, list[str]]  # number of its first line, fields


@dataclass(frozen=True)
class Dialect:
    """How a table of text separates its fields.

    Spark and MySQL escape a quote by a backslash (``has_backslashes``), others double it.
    """

    names: tuple[str, ...] = ()  # from the header
    delimiter: str = ","
    header_line: int = 1
    is_quoted: bool = True
    has_backslashes: bool = False

    def __str__(self) -> str:
        separators = {";": ", semicolons", "|": ", bars", "\t": ", quoted tabs"}
        separator = separators.get(self.delimiter, "") if self.is_quoted else ""
        return f"{separator}{', backslashed quotes' if self.has_backslashes else ''}"


def read_csv(file: IO[bytes], dialect: Dialect, used: Collection[str]) -> Iterator[Parsed]:
    """Read CSV with quoting in batches of bounded size; a row may span lines.

    Args:
        file: UTF-8.
        dialect: of the file.
        used: names of the columns to return.
    """
    places = _places(dialect.names, used)
    # Bytes that are not UTF-8 become surrogates, so that only their row needs another look.
    with io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="") as text:
        rows: list[list[str]] = []
        lines: list[int] = []
        bad: list[BadRow] = []
        chars = recoded = 0
        for row in csv_rows(text, dialect):
            if isinstance(row, BadRow):
                bad.append(row)
            else:
                line, fields = row
                if any(map(_ESCAPED_BYTES.search, fields)):
                    if as_windows_1252(_raw("".join(fields))) is None:
                        bad.append(BadRow.of(line, "not UTF-8", ",".join(fields)))
                        continue
                    fields = [_raw(each).decode("cp1252") for each in fields]
                    recoded += 1
                lines.append(line)
                rows.append(fields)
                chars += sum(map(len, fields))
            if len(rows) + len(bad) >= BATCH_ROWS or chars >= BATCH_CHARS:
                yield Parsed(_frame(rows, places, dialect), lines, bad, recoded)
                rows, lines, bad, chars, recoded = [], [], [], 0, 0
        yield Parsed(_frame(rows, places, dialect), lines, bad, recoded)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def csv_rows(text: TextIO, dialect: Dialect) -> Iterator[CsvRow | BadRow]:
    """Yield the rows after the header; empty lines are skipped.

    Args:
        text: opened with ``newline=""``.
        dialect: of the text.
    """
    width = len(dialect.names)
    lines = _Lines(text, has_backslashes=dialect.has_backslashes)
    for _ in range(dialect.header_line - 1):
        next(lines, None)
        lines.end_row()
    reader = csv.reader(lines, delimiter=dialect.delimiter)
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
        elif (
            reason is None and len(lines.of_row) > 1 and not _is_well_formed(lines.of_row, dialect)
        ):
            reason = "a quote ends within a field, or not at all"
        if reason is not None:
            yield lines.reject(reason)
        elif fields:
            yield lines.first, fields
        lines.end_row()
    if lines.damage:
        yield BadRow.of(lines.first, f"{BREAKS_OFF}: {lines.damage}", "")


def parse_tsv(
    lines: Sequence[bytes], numbers: Sequence[int], dialect: Dialect, used: Collection[str]
) -> Parsed:
    """Parse TSV without quoting: a tab always separates, a line always ends a row.

    Args:
        lines: without line ends.
        numbers: of the lines in the file; those up to the header are skipped.
        dialect: of the file.
        used: names of the columns to return.
    """
    width = len(dialect.names)
    bad: list[BadRow] = []
    kept: list[int] = []
    good: list[str] = []
    recoded = 0
    for number, line in zip(numbers, lines, strict=True):
        if number <= dialect.header_line or not line.strip():
            continue
        try:
            text = line.rstrip(b"\r").decode()
        except UnicodeDecodeError as error:
            decoded = as_windows_1252(line.rstrip(b"\r"))
            if decoded is None:
                bad.append(BadRow.of(number, f"not UTF-8: {error.reason}", line))
                continue
            text = decoded
            recoded += 1
        found = text.count("\t") + 1
        if found != width:
            bad.append(BadRow.of(number, f"{found} columns instead of {width}", text))
            continue
        kept.append(number)
        good.append(text)
    split = pl.col("line").str.split_exact("\t", width - 1).struct
    fields = pl.DataFrame({"line": good}, schema={"line": pl.String}).select(
        split.field(f"field_{place}").alias(name)
        for name, place in _places(dialect.names, used).items()
    )
    return Parsed(fields, kept, bad, recoded)


def _places(names: Sequence[str], used: Collection[str]) -> dict[str, int]:
    """Return the positions of the used columns; others may share a name."""
    return {name: place for place, name in enumerate(names) if name in used}


def _frame(rows: list[list[str]], places: dict[str, int], dialect: Dialect) -> pl.DataFrame:
    schema = dict.fromkeys(map(str, range(len(dialect.names))), pl.String)
    fields = pl.DataFrame(rows, schema=schema, orient="row")
    return fields.select(pl.col(str(at)).alias(name) for name, at in places.items())


def _is_well_formed(lines: Sequence[str], dialect: Dialect) -> bool:
    """Whether every quoted field of a row of several lines ends where its quote does."""
    if len(lines) < 2:
        return True
    try:
        for _ in csv.reader(lines, delimiter=dialect.delimiter, strict=True):
            pass
    except csv.Error:
        return False
    return True


class _RowTooLongError(Exception):
    pass


class _Lines:
    """Lines for the csv module, and the state of the row that it is reading."""

    def __init__(self, text: TextIO, *, has_backslashes: bool) -> None:
        self.of_row: list[str] = []
        self.damage = ""
        self._text = text
        self._has_backslashes = has_backslashes
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
        except DamagedError as error:
            self.damage = str(error)
            return ""
        if self._has_backslashes and "\\" in line:
            line = _BACKSLASHED.sub(lambda found: '""' if found[1] == '"' else "\\", line)
        return line
