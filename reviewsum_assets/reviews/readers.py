"""Reads a dump of any format in batches of bounded memory, and overlaps the steps of doing so.

Steps run in threads, which helps because polars releases Python's lock.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import polars as pl

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.delimited import parse_tsv, read_csv
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.fields import (
    GROUPED_SCHEMA,
    MEANINGFUL,
    MOST_COUNTED,
    PRODUCT_ID,
    TEXT,
    cleaned,
    finite,
    id_problem,
    product_id,
)
from reviewsum_assets.reviews.formats import Format, Layout, open_unpacked, read_until_damage
from reviewsum_assets.reviews.json_lines import parse_json_lines
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
from reviewsum_assets.storage.tables import UNREADABLE, first_line

BATCH_BYTES = 32 * 1024 * 1024
_MOST_LINES = 200_000
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
        DumpError: a Parquet file is damaged, or holds no reviews.
    """
    if detected.layout is Layout.PARQUET:
        yield from _parquet_batches(dump)
        return
    seen: set[str] = set()
    with dump.open() as raw, open_unpacked(raw, detected) as file:
        for fields, bad in _rows(file, detected, seen):
            yield RawBatch(fields, bad, dump.size if raw.closed else raw.tell())


def _rows(
    file: IO[bytes], detected: Format, seen: set[str]
) -> Iterator[tuple[pl.DataFrame, list[BadRow]]]:
    if detected.layout is Layout.GROUPED_CSV:
        for parsed in read_csv(file, detected.columns):
            yield _products(parsed, seen)
    elif detected.layout is Layout.CSV:
        yield from map(named_rows, read_csv(file, detected.columns))
    else:
        for lines, first, bad in _line_batches(file):
            if detected.layout is Layout.TSV:
                fields, more = named_rows(parse_tsv(lines, first, detected.columns))
            else:
                assert detected.layout is Layout.JSON_LINES
                fields, more = parse_json_lines(lines, first)
            yield fields, bad + more


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
        id_problem(product_id(["product_id"])),
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


def _line_batches(file: IO[bytes]) -> Iterator[tuple[list[bytes], int, list[BadRow]]]:
    """Yield whole lines, the number of the first, and bad rows before or after them."""
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
        # A block of little but line ends would need too much memory when parsed at once.
        for start in range(0, len(lines), _MOST_LINES):
            yield lines[start : start + _MOST_LINES], number + start, bad
            bad = []
        number += len(lines)
        if damage:
            yield [], number, [BadRow.of(number, f"{BREAKS_OFF}: {damage}", rest)]


def _parquet_batches(dump: Dump) -> Iterator[RawBatch]:
    """Read a local copy, because polars needs random access."""
    with tempfile.TemporaryDirectory(prefix="reviewsum-dump-") as scratch:
        path = Path(scratch, "dump.parquet")
        with dump.open() as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        try:
            scan = pl.scan_parquet(path, glob=False)
            schema = scan.collect_schema()
            total = scan.select(pl.len()).collect().item()
        except UNREADABLE as error:
            raise DumpError(
                f"dump {dump.name} (Parquet) cannot be read: {first_line(error)}"
            ) from error
        scan = scan.select(_as_text(dump, schema))
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
            yield RawBatch(*named_rows(Parsed(fields, numbers, [])), dump.size * start // total)
            row_bytes = fields.estimated_size() / fields.height
            rows = max(1, min(BATCH_ROWS, int(BATCH_CHARS / (row_bytes + 1))))


def _as_text(dump: Dump, schema: pl.Schema) -> list[pl.Expr]:
    """Select the meaningful columns as text; nested ones have no text."""
    columns = [n for n, dtype in schema.items() if n in MEANINGFUL and not dtype.is_nested()]
    for fields in (PRODUCT_ID, TEXT):
        if not set(fields) & set(columns):
            found = ", ".join(f"{name!r}: {dtype}" for name, dtype in schema.items())[:200]
            raise DumpError(
                f"dump {dump.name} (Parquet) has no column of text named {' or '.join(fields)}: "
                f"found {found}"
            )
    return [pl.col(name).cast(pl.String, strict=False) for name in columns]
