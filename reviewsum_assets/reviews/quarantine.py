"""Rows that cannot be read: set aside with file, line and reason, never lost in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

_EXCERPT_CHARS = 200
# How a reader begins to tell that a dump breaks off: what follows is not one row, but unknown.
BREAKS_OFF = "the file is damaged from about here on"
# Of one dump; a file that is no dump at all would fill the disk with its bad rows.
MOST_LISTED = 1_000_000


class QuarantinedRow(BaseModel):
    """One row that could not be read; ``line`` counts from 1 (rows, in a Parquet file)."""

    file: str
    line: int
    reason: str
    excerpt: str


@dataclass(frozen=True)
class BadRow:
    """A bad row as a reader reports it; of its content only the beginning is kept."""

    line: int
    reason: str
    excerpt: str

    @classmethod
    def of(cls, line: int, reason: str, content: str | bytes) -> BadRow:
        """A bad row; bytes that are no text are kept visible as escapes."""
        if isinstance(content, bytes):
            content = content[: 4 * _EXCERPT_CHARS].decode(errors="backslashreplace")
        excerpt = content[:_EXCERPT_CHARS].encode("utf-8", "backslashreplace").decode()
        return cls(line, reason, excerpt)


class Quarantine:
    """Collects bad rows in a local file of JSON lines.

    ``counts`` has the rows of each dump, ``damage`` where and why dumps break off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.damage: dict[str, str] = {}
        self._first: dict[str, str] = {}

    def add(self, file: str, rows: list[BadRow]) -> None:
        """Set rows of a dump aside."""
        if not rows:
            return
        listed = rows[: max(0, MOST_LISTED - self.counts[file])]
        if self.counts[file] < MOST_LISTED < self.counts[file] + len(rows):
            rest = rows[len(listed)]
            reason = f"{rest.reason}; from here on bad rows are counted, but not listed"
            listed.append(BadRow(rest.line, reason, rest.excerpt))
        self.counts[file] += len(rows)
        if rows[-1].reason.startswith(BREAKS_OFF):
            self.damage[file] = f"line {rows[-1].line}: {rows[-1].reason}"
        self._first.setdefault(file, f"line {rows[0].line}: {rows[0].reason}")
        with self.path.open("a", encoding="utf-8") as target:
            for row in listed:
                entry = QuarantinedRow(
                    file=file, line=row.line, reason=row.reason, excerpt=row.excerpt
                )
                target.write(entry.model_dump_json() + "\n")

    def first_reason(self, file: str) -> str:
        """Line and reason of a dump's first bad row."""
        return self._first.get(file, "none")
