"""Parses JSON lines at the speed of polars, and still names each line that is no review."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import polars as pl

from reviewsum_assets.reviews.fields import PRODUCT_ID, RAW_FIELDS, TEXT, id_problem, product_id
from reviewsum_assets.reviews.rows import BadRow

_SCHEMA = dict.fromkeys(RAW_FIELDS, pl.String)
# First bytes of JSON. Polars may take other content for a compressed file, and unpack it.
_BEGINNINGS = tuple(bytes([byte]) for byte in b'{["-0123456789tfn \t\r')
# Polars renders a list or an object as text; a text that begins like one is checked again.
_RENDERED = r"^\s*[\[{]"


def parse_json_lines(lines: Sequence[bytes], first: int) -> tuple[pl.DataFrame, list[BadRow]]:
    """Parse lines, of which the first has the number ``first``; empty ones are skipped.

    Returns the string columns ``RAW_FIELDS``, one row per good line, and the bad rows in order.
    """
    numbered = [(number, line) for number, line in enumerate(lines, first) if line.strip()]
    bad: dict[int, BadRow] = {}
    frame = _parsed([line for _, line in numbered])
    if frame is None:
        for number, line in numbered:
            reason = _syntax_error(line)
            if reason is not None:
                bad[number] = BadRow.of(number, reason, line)
        numbered = [one for one in numbered if one[0] not in bad]
        frame = _parsed([line for _, line in numbered])
    if frame is None:
        # Python parses each of these lines and polars does not, which is rare.
        frames = [pl.DataFrame(schema=_SCHEMA)]
        for number, line in numbered:
            found = _parsed([line])
            if found is None:
                bad[number] = BadRow.of(number, "not JSON as the standard defines it", line)
            else:
                frames.append(found)
        numbered = [one for one in numbered if one[0] not in bad]
        frame = pl.concat(frames)
    rejected = _no_reviews(frame, [line for _, line in numbered])
    for row, reason in rejected.items():
        number, line = numbered[row]
        bad[number] = BadRow.of(number, reason, line)
    if rejected:
        frame = frame.filter(~pl.int_range(pl.len()).is_in(list(rejected)))
    return frame, [bad[number] for number in sorted(bad)]


def _parsed(lines: Sequence[bytes]) -> pl.DataFrame | None:
    """Return all lines as a table, or None if one of them cannot be parsed."""
    if not lines:
        return pl.DataFrame(schema=_SCHEMA)
    content = b"\n".join(lines)
    if content[:1] not in _BEGINNINGS:
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(content), schema=_SCHEMA, ignore_errors=True)
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.height == len(lines) else None


def _syntax_error(line: bytes) -> str | None:
    try:
        json.loads(line.decode())
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start}"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos}"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return None


def _no_reviews(frame: pl.DataFrame, lines: Sequence[bytes]) -> dict[int, str]:
    """Return the reasons of rows that are no reviews; only doubtful rows are parsed again."""
    text = pl.coalesce(TEXT)
    product = product_id(RAW_FIELDS)
    id_problems = frame.select(id_problem(product)).to_series()
    is_doubtful = (
        pl.lit(id_problems.is_not_null())
        | product.str.contains(_RENDERED)
        | text.is_null()
        | text.str.contains(_RENDERED)
    )
    doubtful = frame.select(pl.arg_where(is_doubtful)).to_series()
    reasons = {row: _no_review(lines[row]) or id_problems[row] for row in doubtful}
    return {row: reason for row, reason in reasons.items() if reason is not None}


def _no_review(line: bytes) -> str | None:
    """Return why a line is no review, or None if only its product id may be wrong."""
    reason = _syntax_error(line)  # polars accepts some lines that Python does not
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
