"""Parses TSV and CSV into raw fields, naming each row that does not fit the header."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import polars as pl

from reviewsum_assets.reviews.csv_rows import CsvRow, csv_rows
from reviewsum_assets.reviews.quarantine import BadRow
from reviewsum_assets.reviews.raw_batch import BATCH_CHARS, BATCH_ROWS, wanted, without_nameless

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
