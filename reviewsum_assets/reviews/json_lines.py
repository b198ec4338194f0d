"""Parses lines of JSON objects into raw fields, naming each line that is not a review."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import polars as pl

from reviewsum_assets.reviews.fields import PRODUCT_ID, RAW_FIELDS, TEXT, product_id, what_is_wrong
from reviewsum_assets.reviews.quarantine import BadRow

_SCHEMA = dict.fromkeys(RAW_FIELDS, pl.String)
# Of JSON. What begins otherwise, polars may take for a compressed file, and unpack.
_BEGINNINGS = tuple(bytes([byte]) for byte in b'{["-0123456789tfn \t\r')
# polars renders a list or an object as text; a text that begins like one is looked at again.
_RENDERED = r"^\s*[\[{]"


def parse_json_lines(lines: Sequence[bytes], first: int) -> tuple[pl.DataFrame, list[BadRow]]:
    """Parse lines.

    Args:
        lines: without line ends; empty ones are passed over.
        first: the number of the first line, for bad rows.

    Returns:
        String columns ``RAW_FIELDS``, a row a good line, and the bad rows in order.
    """
    numbered = list(enumerate(lines, first))
    if not all(map(bytes.strip, lines)):
        numbered = [(number, line) for number, line in numbered if line.strip()]
    bad: list[BadRow] = []
    frame = _parsed(numbered)
    if frame is None:
        numbered, bad = _readable(numbered)
        frame = _parsed(numbered)
    if frame is None:
        # Python reads each of these lines and polars does not: rare enough to go one by one.
        frame, numbered, more = _one_by_one(numbered)
        bad += more
    frame, doubtful = _without_doubtful(frame, numbered)
    return frame, sorted([*bad, *doubtful], key=lambda row: row.line)


def _parsed(numbered: Sequence[tuple[int, bytes]]) -> pl.DataFrame | None:
    """All lines at once, or None if one of them cannot be parsed."""
    if not numbered:
        return pl.DataFrame(schema=_SCHEMA)
    content = b"\n".join([line for _, line in numbered])
    if content[:1] not in _BEGINNINGS:
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(content), schema=_SCHEMA, ignore_errors=True)
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.height == len(numbered) else None


def _readable(
    numbered: Sequence[tuple[int, bytes]],
) -> tuple[list[tuple[int, bytes]], list[BadRow]]:
    good: list[tuple[int, bytes]] = []
    bad: list[BadRow] = []
    for number, line in numbered:
        reason = _unreadable(line)
        if reason is None:
            good.append((number, line))
        else:
            bad.append(BadRow.of(number, reason, line))
    return good, bad


def _unreadable(line: bytes) -> str | None:
    """Why a line is no JSON, or None if it is."""
    try:
        json.loads(line.decode())
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start}"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos}"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return None


def _one_by_one(
    numbered: Sequence[tuple[int, bytes]],
) -> tuple[pl.DataFrame, list[tuple[int, bytes]], list[BadRow]]:
    frames: list[pl.DataFrame] = [pl.DataFrame(schema=_SCHEMA)]
    good: list[tuple[int, bytes]] = []
    bad: list[BadRow] = []
    for number, line in numbered:
        frame = _parsed([(number, line)])
        if frame is None:
            bad.append(BadRow.of(number, "not JSON as the standard defines it", line))
        else:
            frames.append(frame)
            good.append((number, line))
    return pl.concat(frames), good, bad


def _without_doubtful(
    frame: pl.DataFrame, numbered: Sequence[tuple[int, bytes]]
) -> tuple[pl.DataFrame, list[BadRow]]:
    """Take out rows that are no reviews, looking only at those that could be none."""
    text = pl.coalesce(TEXT)
    product = product_id(RAW_FIELDS)
    wrong_id = frame.select(what_is_wrong(product)).to_series()
    is_doubtful = (
        pl.lit(wrong_id.is_not_null())
        | product.str.contains(_RENDERED)
        | text.is_null()
        | text.str.contains(_RENDERED)
    )
    bad: list[BadRow] = []
    out: list[int] = []
    for index in frame.select(pl.arg_where(is_doubtful)).to_series():
        number, line = numbered[index]
        reason = _no_review(line) or wrong_id[index]
        if reason is not None:
            out.append(index)
            bad.append(BadRow.of(number, reason, line))
    if not out:
        return frame, []
    kept = ~pl.int_range(pl.len()).is_in(out)
    return frame.filter(kept), bad


def _no_review(line: bytes) -> str | None:
    """Why a JSON line is no review, or None if it is one, for all that its product id says."""
    reason = _unreadable(line)  # polars is content with some things that Python is not
    if reason is not None:
        return reason
    row = json.loads(line.decode())
    if not isinstance(row, dict):
        return f"not an object but a {type(row).__name__}"
    given = (row[field] for field in PRODUCT_ID if row.get(field) is not None)
    product = next((value for value in given if str(value).strip()), None)
    if isinstance(product, list | dict | None):
        return f"no product id in {' or '.join(PRODUCT_ID)}"
    present = [field for field in TEXT if field in row]
    if not present:
        return f"no text in {' or '.join(TEXT)}"
    if any(isinstance(row[field], list | dict) for field in present):
        return f"{present[0]} is not text"
    return None
