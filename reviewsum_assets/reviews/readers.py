"""Reads a dump of any format in batches of bounded memory, and overlaps the steps of doing so.

Steps run in threads, which helps because polars releases Python's lock.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import polars as pl

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.containers import read_until_damage
from reviewsum_assets.reviews.delimited import parse_tsv, read_csv
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import (
    GROUPED_SCHEMA,
    Columns,
    cleaned,
    id_problem,
    product_id,
)
from reviewsum_assets.reviews.formats import JSON_LAYOUTS, Format, Layout
from reviewsum_assets.reviews.json_rows import (
    MOST_LINES,
    json_objects,
    json_of_literals,
    parse_json_lines,
)
from reviewsum_assets.reviews.rows import (
    BATCH_CHARS,
    BATCH_ROWS,
    BREAKS_OFF,
    MOST_ROW_LENGTH,
    TOO_LONG,
    BadRow,
    Parsed,
    RawBatch,
    named_rows,
)
from reviewsum_assets.reviews.values import MOST_COUNTED, finite
from reviewsum_assets.storage.tables import UNREADABLE, first_line

BATCH_BYTES = 32 * 1024 * 1024
_GROUPED_COLUMNS: Columns = {"product_id": ("product_id",)}
# The first batch of a Parquet file shows the size of its rows.
_FIRST_ROWS = 1_000
_END = object()

Item = TypeVar("Item")
Made = TypeVar("Made")


def fetched_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, fetching the next one while the caller processes the current one."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, iterator, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(next, iterator, _END)
            yield item  # type: ignore[misc]  # anything but the end is an item


def mapped_ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Map the items, calling ``function`` while the next item is fetched."""
    with ThreadPoolExecutor(1) as thread:
        earlier: Future[Made] | None = None
        for item in items:
            later = thread.submit(function, item)
            if earlier is not None:
                yield earlier.result()
            earlier = later
        if earlier is not None:
            yield earlier.result()


def read_batches(dump: Dump, detected: Format) -> Iterator[RawBatch]:
    """Read a dump from start to end.

    Rows are string columns of reviews, or of a grouped CSV products in ``GROUPED_SCHEMA`` with
    null for absent columns.

    Raises:
        DumpError: a Parquet file is damaged.
    """
    if detected.layout is Layout.PARQUET:
        yield from _parquet_batches(dump, detected)
        return
    seen: set[str] = set()
    with dump.open() as raw, detected.container.open(raw) as file:
        for parsed in _parsed(file, detected):
            if detected.layout is Layout.GROUPED_CSV:
                fields, bad = _products(parsed, seen)
            elif detected.layout in JSON_LAYOUTS:
                fields, _, bad, _ = parsed
            else:
                fields, bad = _named(parsed, detected)
            done = dump.size if raw.closed else raw.tell()
            yield RawBatch(fields, bad, done, parsed.recoded)


def _parsed(file: IO[bytes], detected: Format) -> Iterator[Parsed]:
    layout, dialect, used = detected.layout, detected.dialect, detected.used
    if layout in (Layout.CSV, Layout.GROUPED_CSV):
        yield from read_csv(file, dialect, used)
    elif layout is Layout.TSV:
        for lines, numbers, bad in _line_batches(file):
            parsed = parse_tsv(lines, numbers, dialect, used)
            yield parsed._replace(bad=bad + parsed.bad)
    else:
        is_lines = layout is not Layout.JSON_OBJECTS
        split = _line_batches(file) if is_lines else json_objects(file, BATCH_BYTES)
        for lines, numbers, bad in split:
            if layout is Layout.PYTHON_LITERALS:
                lines, numbers, more = json_of_literals(lines, numbers)
                bad = bad + more
            parsed = parse_json_lines(lines, numbers, detected.columns, detected.constants)
            bad = sorted(bad + parsed.bad, key=lambda row: row.line)
            yield parsed._replace(bad=bad)


def _named(parsed: Parsed, detected: Format) -> tuple[pl.DataFrame, list[BadRow]]:
    constants = detected.constants.items()
    fields = parsed.fields.with_columns(pl.lit(text).alias(name) for name, text in constants)
    return named_rows(parsed._replace(fields=fields), detected.columns)


def _products(parsed: Parsed, seen: set[str]) -> tuple[pl.DataFrame, list[BadRow]]:
    """Return the products of a grouped CSV, and the rows without usable id or count, or repeated.

    Args:
        parsed: rows of the CSV.
        seen: the products so far.
    """
    columns = parsed.fields.columns
    typed = parsed.fields.select(
        # No cell of a CSV is a list.
        _typed(name, dtype)
        if name in columns and not dtype.is_nested()
        else pl.lit(None, dtype).alias(name)
        for name, dtype in GROUPED_SCHEMA.items()
    ).with_columns(cleaned(pl.col("all_reviews", "all_user_summaries")))
    count = pl.col("review_count")
    problem = pl.coalesce(
        id_problem(product_id(_GROUPED_COLUMNS, ["product_id"])),
        pl.when(count.is_null()).then(pl.lit("review_count is not a whole number")),
        pl.when(~count.is_between(0, MOST_COUNTED)).then(
            pl.lit(f"review_count is not between 0 and {MOST_COUNTED:,}")
        ),
    )
    good = []
    bad = parsed.bad
    judged = typed.select("product_id", problem).iter_rows()
    for line, (product, reason) in zip(parsed.lines, judged, strict=True):
        if reason is None and product in seen:
            reason = "repeated product"
        if reason is not None:
            bad.append(BadRow.of(line, reason, product or ""))
        else:
            seen.add(product)
        good.append(reason is None)
    return typed.filter(pl.Series(good, dtype=pl.Boolean)), sorted(bad, key=lambda row: row.line)


def _typed(name: str, dtype: pl.DataType) -> pl.Expr:
    """Convert text, to null if that fails; pandas writes whole numbers as ``12.0`` too."""
    text = pl.col(name).str.strip_chars()
    if dtype == pl.Float64:
        return finite(text)
    if dtype == pl.Int64:
        text = text.str.replace(r"\.0*$", "")
    return text.cast(dtype, strict=False)


def _line_batches(file: IO[bytes]) -> Iterator[tuple[list[bytes], Sequence[int], list[BadRow]]]:
    """Yield whole lines, their numbers, and bad rows before or after them."""
    number = 1
    rest = b""
    ended = False
    while not ended:
        block, damage = read_until_damage(file, BATCH_BYTES)
        ended = bool(damage) or not block
        lines = (rest + block).split(b"\n")
        # One byte above the limit is enough to recognize a row that is too long.
        rest = lines.pop()[: MOST_ROW_LENGTH + 1]
        if ended and rest and not damage:  # a last line without an end
            lines.append(rest)
        bad = []
        if lines and len(lines[0]) > MOST_ROW_LENGTH:
            bad.append(BadRow.of(number, TOO_LONG, lines[0]))
            lines[0] = b""
        for start in range(0, len(lines), MOST_LINES):
            part = lines[start : start + MOST_LINES]
            yield part, range(number + start, number + start + len(part)), bad
            bad = []
        number += len(lines)
        if damage:
            yield [], (), [BadRow.of(number, f"{BREAKS_OFF}: {damage}", rest)]


def _parquet_batches(dump: Dump, detected: Format) -> Iterator[RawBatch]:
    """Read a local copy, because polars needs random access."""
    with tempfile.TemporaryDirectory(prefix="reviewsum-dump-") as scratch:
        path = Path(scratch, "dump.parquet")
        with dump.open() as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        try:
            scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            schema = scan.collect_schema()
            total = scan.select(pl.len()).collect().item()
        except UNREADABLE as error:
            raise DumpError(
                f"dump {dump.label} (Parquet) cannot be read: {first_line(error)}"
            ) from error
        dates = detected.columns.get("review_date", ())
        scan = scan.select(
            _as_text(name, schema[name], is_date=name in dates) for name in detected.used
        )
        start, rows = 0, _FIRST_ROWS
        while start < total:
            try:
                fields = scan.slice(start, rows).collect()
            except UNREADABLE as error:
                reason = f"{BREAKS_OFF}: {first_line(error)}"
                yield RawBatch(
                    scan.clear().collect(), [BadRow.of(start + 1, reason, "")], dump.size
                )
                return
            numbers = range(start + 1, start + fields.height + 1)
            start += fields.height
            named = _named(Parsed(fields, numbers, []), detected)
            yield RawBatch(*named, dump.size * start // total)
            row_bytes = fields.estimated_size() / fields.height
            rows = max(1, min(BATCH_ROWS, int(BATCH_CHARS / (row_bytes + 1))))


def _as_text(name: str, dtype: pl.DataType, *, is_date: bool) -> pl.Expr:
    """A column as JSON lines would have it: seconds since 1970, numbers and lists as text."""
    column = pl.col(name)
    if dtype.is_nested():
        encoded = pl.struct(column).struct.json_encode()  # {"name":...}
        return encoded.str.slice(len(json.dumps(name)) + 2).str.head(-1).alias(name)
    if is_date and dtype.is_temporal():
        column = column.dt.epoch("s")
    return column.cast(pl.String, strict=False)
