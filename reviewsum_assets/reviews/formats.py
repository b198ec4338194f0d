"""Detects how a dump is written from its content; file names and endings are ignored."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO

import polars as pl

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.containers import Container, detect_container
from reviewsum_assets.reviews.delimited import Dialect, csv_rows
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import (
    GROUPED_SCHEMA,
    Columns,
    find_columns,
    is_review,
    json_columns,
)
from reviewsum_assets.reviews.rows import MOST_LITERAL_LENGTH, BadRow
from reviewsum_assets.settings import ReviewField
from reviewsum_assets.storage.tables import UNREADABLE, first_line

_GROUPED_FIELDS = {"product_id", "all_reviews", "review_count"}
_PARQUET_MAGIC = b"PAR1"
_HEAD_BYTES = 1 << 20
_EXPECTED = (
    "expected JSON lines, a JSON array, CSV, TSV or Parquet with one review per row, or a grouped "
    "CSV with product_id, all_reviews and review_count"
)
_DELIMITERS = "\t,;|"
_EXCEL_HINT = re.compile(r"^sep=(.)$", re.IGNORECASE)


class Layout(StrEnum):
    """Layout of a dump's rows."""

    JSON_LINES = "JSON lines"
    JSON_OBJECTS = "JSON objects"  # in an array, concatenated, or of several lines
    PYTHON_LITERALS = "Python literals"
    TSV = "TSV"  # without quoting
    CSV = "CSV"
    PARQUET = "Parquet"
    GROUPED_CSV = "grouped CSV"


JSON_LAYOUTS = (Layout.JSON_LINES, Layout.JSON_OBJECTS, Layout.PYTHON_LITERALS)


@dataclass(frozen=True)
class Format:
    """How a dump is written, and which of its columns hold which field."""

    layout: Layout
    names: tuple[str, ...]  # of all columns; of JSON those in its first lines
    container: Container = field(default_factory=Container)
    dialect: Dialect = field(default_factory=Dialect)  # of TSV and CSV
    columns: Columns = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)  # columns in the names of folders

    def __str__(self) -> str:
        return f"{self.layout.value}{self.dialect}{self.container}"

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that are read from the file."""
        if self.layout is Layout.GROUPED_CSV:
            return tuple(GROUPED_SCHEMA)
        names = dict.fromkeys(name for columns in self.columns.values() for name in columns)
        return tuple(name for name in names if name not in self.constants)

    def unpacked_bytes(self, size: int) -> int:
        """Estimate the unpacked size of a dump; text packs to a quarter or less."""
        is_packed = self.container.compression or self.layout is Layout.PARQUET
        return size * (4 if is_packed else 1)


def detect_format(dump: Dump, mapping: Mapping[ReviewField, str]) -> Format:
    """Detect a format from the first bytes.

    Args:
        dump: a file, or a member of an archive.
        mapping: column by field, as in the setting ``columns``.

    Raises:
        DumpError: the dump is empty or of unknown format, has no columns of product id and text, or
            repeats the name of a column.
    """
    with dump.open() as file:
        container, head, damage = detect_container(file, dump.label, _HEAD_BYTES)
        if head.startswith(_PARQUET_MAGIC):
            file.seek(0)
            return _parquet_format(dump, file, mapping)
    if not head.strip():
        found = f"cannot be unpacked ({damage})" if damage else "is empty"
        raise DumpError(f"dump {dump.label} {found}: {_EXPECTED}")
    return _Detection(dump, container, head, mapping).format()


def no_columns(label: str, layout: str, names: Sequence[str]) -> DumpError:
    """Return the error of a dump without known columns of product id and text."""
    return DumpError(
        f"dump {label} ({layout}) has no known columns of product id and review text; its columns "
        f"are {', '.join(names)[:1000]}. To fix: say which they are, for example "
        "--columns product_id=SKU,review_text=Comment,rating=Grade,review_date=When"
    )


def _parquet_format(dump: Dump, file: IO[bytes], mapping: Mapping[ReviewField, str]) -> Format:
    try:
        schema = pl.read_parquet_schema(file)
    except UNREADABLE as error:
        raise DumpError(
            f"dump {dump.label} (Parquet) cannot be read: {first_line(error)}"
        ) from error
    constants = {name: text for name, text in dump.partition.items() if name not in schema}
    columns = find_columns((*schema, *constants), mapping)
    for required in ("product_id", "review_text"):
        # A list or a struct is neither an id nor a text.
        names = columns.pop(required, ())
        names = tuple(name for name in names if name in constants or not schema[name].is_nested())
        if names:
            columns[required] = names
    if not is_review(columns):
        raise no_columns(
            dump.label, "Parquet", [f"{name}: {kind}" for name, kind in schema.items()]
        )
    return Format(Layout.PARQUET, tuple(schema), columns=columns, constants=constants)


class _Detection:
    """The first lines of a dump, looked at in several ways."""

    def __init__(
        self, dump: Dump, container: Container, head: bytes, mapping: Mapping[ReviewField, str]
    ) -> None:
        self._dump, self._container, self._mapping = dump, container, mapping
        self._head = head
        self._lines = head.splitlines()

    def format(self) -> Format:
        """Return the format.

        Raises:
            DumpError: there is none that fits.
        """
        return self._json() or self._delimited()

    def _json(self) -> Format | None:
        start = self._head.lstrip()
        objects: list[dict[str, object]] = []
        layout = Layout.JSON_LINES
        if not re.match(rb"\[\s*\{", start):
            # Broken rows may precede the first review.
            objects = [row for line in self._lines if isinstance(row := _parsed(line), dict)]
        if not self._names_review(objects):
            first = self._first_object(start)
            if first is not None:
                objects, layout = [first], Layout.JSON_OBJECTS
            elif start.startswith(b"{"):
                objects = objects or [row for row in map(_literal, self._lines[:100]) if row]
                layout = Layout.PYTHON_LITERALS
        if not objects:
            return None
        names = tuple(dict.fromkeys(name for row in objects for name in row))
        if not self._names_review(objects):
            raise no_columns(self._dump.label, layout, names)
        columns = json_columns((*names, *self._dump.partition), self._mapping)
        return Format(
            layout, names, self._container, columns=columns, constants=self._constants(names)
        )

    def _names_review(self, objects: Sequence[Mapping[str, object]]) -> bool:
        return any(is_review(self._columns(list(row))) for row in objects)

    def _columns(self, names: Sequence[str]) -> dict[ReviewField, tuple[str, ...]]:
        return find_columns((*names, *self._constants(names)), self._mapping)

    def _constants(self, names: Sequence[str]) -> dict[str, str]:
        return {name: text for name, text in self._dump.partition.items() if name not in names}

    @staticmethod
    def _first_object(start: bytes) -> dict[str, object] | None:
        """Return the first object of an array or of concatenated ones."""
        text = start.decode(errors="replace").lstrip("[ \t\r\n")
        if not text.startswith("{"):
            return None
        try:
            row, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return None
        return row if isinstance(row, dict) else None

    def _delimited(self) -> Format:
        text = self._head.decode(errors="replace")
        lines = re.split(r"\r\n|\n|\r", text)
        at = next((number for number, line in enumerate(lines) if line.strip()), 0)
        hint = _EXCEL_HINT.match(lines[at].strip('" '))
        if hint is not None and at + 1 < len(lines):
            at += 1
        header = lines[at].replace("\0", "")  # a name of a column holds no NUL
        delimiters = hint[1] if hint else _DELIMITERS
        by_delimiter = {delimiter: _header(header, delimiter) for delimiter in delimiters}
        for delimiter, names in by_delimiter.items():
            is_grouped = set(names) >= _GROUPED_FIELDS
            columns = {} if is_grouped else self._columns(names)
            if is_grouped or is_review(columns):
                self._refuse_repeated(names, columns)
                dialect = _dialect(text, Dialect(names, delimiter, at + 1))
                layout = Layout.GROUPED_CSV if is_grouped else Layout.CSV
                if layout is Layout.CSV and delimiter == "\t" and not dialect.is_quoted:
                    layout = Layout.TSV
                constants = {} if is_grouped else self._constants(names)
                return Format(layout, names, self._container, dialect, columns, constants)
        names = max(by_delimiter.values(), key=len)
        if len(names) > 1 and any(line.strip() for line in lines[at + 1 :]):
            raise no_columns(self._dump.label, "CSV", [name for name in names if name])
        raise DumpError(
            f"dump {self._dump.label} is of unknown format: {_EXPECTED}; found "
            f"{_described(self._lines)}"
        )

    def _refuse_repeated(self, names: Sequence[str], columns: Columns) -> None:
        used = {name for group in columns.values() for name in group} or set(GROUPED_SCHEMA)
        repeated = [name for name, count in Counter(names).items() if count > 1 and name in used]
        if repeated:
            raise DumpError(
                f"dump {self._dump.label} has several columns named {' and '.join(repeated)}. "
                "To fix: rename those that are not meant"
            )


def _header(line: str, delimiter: str) -> tuple[str, ...]:
    names = next(csv.reader(io.StringIO(line), delimiter=delimiter), ())
    return tuple(name.strip() for name in names)


def _dialect(text: str, plain: Dialect) -> Dialect:
    """Decide on quoting and on the escape of quotes, by the rows of the first text."""
    if plain.delimiter == "\t" and not _is_quoted(text):
        return Dialect(plain.names, plain.delimiter, plain.header_line, is_quoted=False)
    escaped = Dialect(plain.names, plain.delimiter, plain.header_line, has_backslashes=True)
    if '\\"' in text and _bad_rows(text, escaped) < _bad_rows(text, plain):
        return escaped
    return plain


def _is_quoted(text: str) -> bool:
    """Whether every quote of a TSV belongs to a quoted field, as pandas writes them."""
    field = r'(?<![^\t\n\r])"(?:[^"]|"")*(?:"(?=[\t\n\r]|$)|$)'
    others, count = re.subn(field, "", text)
    return count > 0 and '"' not in others


def _bad_rows(text: str, dialect: Dialect) -> int:
    rows = csv_rows(io.StringIO(text, newline=""), dialect)
    return sum(isinstance(row, BadRow) for row in rows)


def _parsed(line: bytes) -> object:
    """Parse a line of JSON; bytes if it is none, which JSON cannot hold."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line


def _literal(line: bytes) -> dict[str, object] | None:
    if not line.lstrip().startswith(b"{") or len(line) > MOST_LITERAL_LENGTH:
        return None
    try:
        row = ast.literal_eval(line.decode(errors="replace").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _described(lines: list[bytes]) -> str:
    first = next(line for line in lines if line.strip())
    row = _parsed(first)
    if isinstance(row, bytes):
        return f"a first line of {first[:80].decode(errors='replace')!r}"
    return f"JSON that is a {type(row).__name__}, not one object per line"
