"""Rows of a dump: batches of readable ones, and the quarantine of bad ones.

A row that cannot be read is set aside with file, line and reason, and never lost silently.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pydantic import BaseModel

from reviewsum_assets.reviews.fields import Columns, id_problem, product_id

BATCH_ROWS = 100_000
# A grouped CSV has few rows with much text in each.
BATCH_CHARS = 64 * 1024 * 1024
# In bytes or characters: some 200,000 reviews of a product in a grouped CSV. Anything longer is an
# unclosed quote, or a file made to fill the memory.
MOST_ROW_LENGTH = 64 * 1024 * 1024
# Python needs some hundred times the memory of a literal to parse it.
MOST_LITERAL_LENGTH = 1 << 20
TOO_LONG = f"longer than {MOST_ROW_LENGTH:,} characters"
# Begins the reason where a dump ends early: an unknown number of rows is missing.
BREAKS_OFF = "the file is damaged from about here on"
# Per dump; a file that is no dump at all would fill the disk with its bad rows.
MOST_LISTED = 1_000_000
_EXCERPT_CHARS = 200


class QuarantinedRow(BaseModel):
    """A row that could not be read; ``line`` counts from 1 (rows, in a Parquet file)."""

    file: str
    line: int
    reason: str
    excerpt: str


class BadRow(NamedTuple):
    """A bad row as a reader reports it, with the beginning of its content."""

    line: int
    reason: str
    excerpt: str

    @classmethod
    def of(cls, line: int, reason: str, content: str | bytes) -> BadRow:
        """Make a bad row; bytes that are no text become escapes."""
        if isinstance(content, bytes):
            content = content[: 4 * _EXCERPT_CHARS].decode(errors="backslashreplace")
        excerpt = content[:_EXCERPT_CHARS].encode("utf-8", "backslashreplace").decode()
        return cls(line, reason, excerpt)


class Parsed(NamedTuple):
    """Rows as string columns named as in the dump, the line of each, and the bad rows.

    ``recoded`` of the rows are not UTF-8 and were read as Windows-1252.
    """

    fields: pl.DataFrame
    lines: Sequence[int]
    bad: list[BadRow]
    recoded: int = 0


class RawBatch(NamedTuple):
    """Readable rows of a dump, and the bad rows among them in order.

    ``bytes_done`` is the position in the dump's file.
    """

    fields: pl.DataFrame
    bad: list[BadRow]
    bytes_done: int
    recoded: int = 0


def named_rows(parsed: Parsed, columns: Columns) -> tuple[pl.DataFrame, list[BadRow]]:
    """Return the rows with a valid product id, and all bad rows in order."""
    fields, lines, bad, _ = parsed
    reasons = fields.select(id_problem(product_id(columns, fields.columns))).to_series()
    nameless = reasons.is_not_null().arg_true()
    if nameless.is_empty():
        return fields, bad
    texts = fields.select(
        pl.coalesce(name for name in columns["review_text"] if name in fields.columns)
    )
    bad += [BadRow.of(lines[row], reasons[row], texts.item(row, 0) or "") for row in nameless]
    return fields.filter(reasons.is_null()), sorted(bad, key=lambda row: row.line)


# Pairs of bytes that are a character in UTF-8: such a row is damaged UTF-8 and nothing else.
_UTF8_PAIR = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")


def as_windows_1252(content: bytes) -> str | None:
    """Return a row that is not UTF-8 as text, or None if it is not Windows-1252 either."""
    if _UTF8_PAIR.search(content):
        return None
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return None


class Quarantine:
    """Collects bad rows in a local file of JSON lines.

    ``counts`` holds the number of bad rows of each dump, ``first_reasons`` the first of them, and
    ``damage`` where and why dumps break off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.first_reasons: dict[str, str] = {}
        self.damage: dict[str, str] = {}

    def add(self, file: str, rows: list[BadRow]) -> None:
        """Set rows of a dump aside."""
        if not rows:
            return
        listed = rows[: max(0, MOST_LISTED - self.counts[file])]
        if self.counts[file] < MOST_LISTED < self.counts[file] + len(rows):
            row = rows[len(listed)]
            reason = f"{row.reason}; further bad rows are counted, but not listed"
            listed.append(row._replace(reason=reason))
        self.counts[file] += len(rows)
        self.first_reasons.setdefault(file, f"line {rows[0].line}: {rows[0].reason}")
        if rows[-1].reason.startswith(BREAKS_OFF):
            self.damage[file] = f"line {rows[-1].line}: {rows[-1].reason}"
        with self.path.open("a", encoding="utf-8") as target:
            for row in listed:
                target.write(QuarantinedRow(file=file, **row._asdict()).model_dump_json() + "\n")
