"""Splits CSV with quoting into rows, however badly its quotes are set.

To the csv module a quote that nobody closes is a field that holds the rest of the file. So a row
may only be so long; and where a row of several lines makes no sense, its first line alone is bad:
the others are read again, as rows of their own.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

from reviewsum_assets.reviews.formats import DAMAGE
from reviewsum_assets.reviews.quarantine import BREAKS_OFF, BadRow
from reviewsum_assets.reviews.raw_batch import MOST_ROW_LENGTH, TOO_LONG

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
