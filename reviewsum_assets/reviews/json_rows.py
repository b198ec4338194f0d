"""Parses JSON at the speed of polars, and still names each line that is no review.

Objects in an array, concatenated ones and Python literals become JSON lines first.
"""

from __future__ import annotations

import ast
import codecs
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import polars as pl

from reviewsum_assets.reviews.containers import read_until_damage
from reviewsum_assets.reviews.fields import Columns, id_problem, product_id
from reviewsum_assets.reviews.rows import (
    BREAKS_OFF,
    MOST_LITERAL_LENGTH,
    MOST_ROW_LENGTH,
    TOO_LONG,
    BadRow,
    Parsed,
    as_windows_1252,
)

# First bytes of JSON. Polars may take other content for a compressed file, and unpack it.
_BEGINNINGS = tuple(bytes([byte]) for byte in b'{["-0123456789tfn \t\r')
# Polars renders a list or an object as text; a text that begins like one is checked again.
_RENDERED = r"^\s*[\[{]"
# Python's json module writes these, which JSON does not know.
_NO_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b')
# A block of little but line ends would need too much memory when parsed at once.
MOST_LINES = 200_000


def parse_json_lines(
    lines: Sequence[bytes],
    numbers: Sequence[int],
    columns: Columns,
    constants: Mapping[str, str] | None = None,
) -> Parsed:
    """Parse lines with their numbers; empty ones are skipped.

    Returns the string columns of ``columns``, one row per good line, and the bad rows in order.

    Args:
        lines: without line ends.
        numbers: of the lines in the file.
        columns: of each field.
        constants: values of columns that are the same in every row.
    """
    constants = constants or {}
    names = (name for group in columns.values() for name in group if name not in constants)
    schema = dict.fromkeys(names, pl.String)
    # Several objects of an array may have the same number.
    numbered = [(n, line) for n, line in zip(numbers, lines, strict=True) if line.strip()]
    bad: list[BadRow] = []
    recoded = 0
    frame = _parsed([line for _, line in numbered], schema)
    if frame is None:
        numbered = [(number, _without_nan(line)) for number, line in numbered]
        frame = _parsed([line for _, line in numbered], schema)
    if frame is None:
        sound = []
        for number, line in numbered:
            text, is_recoded = _utf8(line)
            reason = _syntax_error(text)
            if reason is not None:
                bad.append(BadRow.of(number, reason, line))
                continue
            recoded += is_recoded
            sound.append((number, text))
        numbered = sound
        frame = _parsed([line for _, line in numbered], schema)
    if frame is None:
        # Python parses each of these lines and polars does not, which is rare.
        frames = [(one, _parsed([one[1]], schema)) for one in numbered]
        reason = "not JSON as the standard defines it"
        bad += [BadRow.of(one[0], reason, one[1]) for one, found in frames if found is None]
        numbered = [one for one, found in frames if found is not None]
        empty = pl.DataFrame(schema=schema)
        frame = pl.concat([empty, *(found for _, found in frames if found is not None)])
    frame = frame.with_columns(pl.lit(text).alias(name) for name, text in constants.items())
    rejected = _no_reviews(frame, [line for _, line in numbered], columns, constants)
    for row, reason in rejected.items():
        number, line = numbered[row]
        bad.append(BadRow.of(number, reason, line))
    if rejected:
        frame = frame.filter(~pl.int_range(pl.len()).is_in(list(rejected)))
    kept = [number for row, (number, _) in enumerate(numbered) if row not in rejected]
    return Parsed(frame, kept, sorted(bad, key=lambda row: row.line), recoded)


def json_of_literals(
    lines: Sequence[bytes], numbers: Sequence[int]
) -> tuple[list[bytes], list[int], list[BadRow]]:
    """Convert lines of Python literals, as in the published set of 2014, to JSON lines.

    Only literals are evaluated, never code. Lines of JSON stay as they are.
    """
    made: list[bytes] = []
    kept: list[int] = []
    bad = []
    for number, line in zip(numbers, lines, strict=True):
        if line.strip() and _syntax_error(line) is not None:
            if len(line) > MOST_LITERAL_LENGTH:
                reason = f"a Python literal longer than {MOST_LITERAL_LENGTH:,} bytes"
                bad.append(BadRow.of(number, reason, line))
                continue
            try:
                line = json.dumps(ast.literal_eval(line.decode().strip())).encode()
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
                reason = str(error).partition("\n")[0] or type(error).__name__
                bad.append(BadRow.of(number, f"neither JSON nor a Python literal: {reason}", line))
                continue
        made.append(line)
        kept.append(number)
    return made, kept, bad


def json_objects(
    file: IO[bytes], block_bytes: int
) -> Iterator[tuple[list[bytes], list[int], list[BadRow]]]:
    """Split an array of objects, or concatenated ones, into one line per object.

    Yields the objects of each block with the numbers of their first lines, and what is none. After
    a damaged object the next one is found by its first key.
    """
    splitter = _Objects()
    ended = False
    while not ended:
        block, damage = read_until_damage(file, block_bytes)
        ended = bool(damage) or not block
        lines, numbers, bad = splitter.feed(block, ended=ended)
        if damage:
            bad.append(BadRow.of(splitter.line, f"{BREAKS_OFF}: {damage}", ""))
        for start in range(0, max(1, len(lines)), MOST_LINES):
            end = start + MOST_LINES
            yield lines[start:end], numbers[start:end], bad
            bad = []


class _Objects:
    """Finds where objects begin and end; ``line`` is the one where the next may begin."""

    def __init__(self) -> None:
        self.line = 1
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._json = json.JSONDecoder()
        self._start: re.Pattern[str] | None = None  # with the first key of the first object

    def feed(self, block: bytes, *, ended: bool) -> tuple[list[bytes], list[int], list[BadRow]]:
        """Return complete objects as lines, their numbers, and what lies between them."""
        text = self._rest + self._decoder.decode(block, ended)
        lines: list[bytes] = []
        numbers: list[int] = []
        bad: list[BadRow] = []
        at = 0
        while at < len(text):
            start = text.find("{", at)
            if start < 0:
                start = len(text)
            between = text[at:start].strip("[], \t\r\n\x1e")  # RFC 7464 separates by 1e
            if between:
                bad.append(BadRow.of(self.line, "not a JSON object", between))
            self.line += text.count("\n", at, start)
            at = start
            if start == len(text):
                break
            end = self._end(text, start, ended=ended)
            if end is None:
                break
            row = text[start:end]
            if len(row) > MOST_ROW_LENGTH:
                bad.append(BadRow.of(self.line, TOO_LONG, row[:1000]))
            else:
                raw = row.encode("utf-8", "surrogateescape")
                lines.append(raw.replace(b"\n", b" ").replace(b"\r", b" "))
                numbers.append(self.line)
            self.line += text.count("\n", start, end)
            at = end
        self._rest = text[at:]
        return lines, numbers, bad

    def _end(self, text: str, start: int, *, ended: bool) -> int | None:
        """Return where an object ends, None if more text is needed to know it."""
        try:
            row, end = self._json.raw_decode(text, start)
        except (ValueError, RecursionError):
            following = self._start.search(text, start + 1) if self._start else None
            if following is not None:
                return following.start()
            return None if not ended and len(text) - start <= MOST_ROW_LENGTH else len(text)
        if self._start is None and row:
            self._start = re.compile(r"\{\s*" + re.escape(json.dumps(next(iter(row)))) + r"\s*:")
        return end


def _without_nan(line: bytes) -> bytes:
    if b"NaN" not in line and b"Infinity" not in line:
        return line
    return _NO_NUMBER.sub(lambda found: found[0] if found[0][:1] == b'"' else b"null", line)


def _utf8(line: bytes) -> tuple[bytes, bool]:
    """Return a line as UTF-8 if it is Windows-1252, and whether it was."""
    try:
        line.decode()
    except UnicodeDecodeError:
        text = as_windows_1252(line)
        return (line, False) if text is None else (text.encode(), True)
    return line, False


def _parsed(lines: Sequence[bytes], schema: Mapping[str, type[pl.String]]) -> pl.DataFrame | None:
    """Return all lines as a table, or None if one of them cannot be parsed."""
    if not lines:
        return pl.DataFrame(schema=schema)
    content = b"\n".join(lines)
    if content[:1] not in _BEGINNINGS:
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(content), schema=schema, ignore_errors=True)
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


def _no_reviews(
    frame: pl.DataFrame, lines: Sequence[bytes], columns: Columns, constants: Mapping[str, str]
) -> dict[int, str]:
    """Return the reasons of rows that are no reviews; only doubtful rows are parsed again."""
    text = pl.coalesce(columns["review_text"])
    product = product_id(columns, frame.columns)
    id_problems = frame.select(id_problem(product)).to_series()
    is_doubtful = (
        pl.lit(id_problems.is_not_null())
        | product.str.contains(_RENDERED)
        | text.is_null()
        | text.str.contains(_RENDERED)
    )
    doubtful = frame.select(pl.arg_where(is_doubtful)).to_series()
    reasons = {
        row: _no_review(lines[row], columns, constants) or id_problems[row] for row in doubtful
    }
    return {row: reason for row, reason in reasons.items() if reason is not None}


def _no_review(line: bytes, columns: Columns, constants: Mapping[str, str]) -> str | None:
    """Return why a line is no review, or None if only its product id may be wrong."""
    reason = _syntax_error(line)  # polars accepts some lines that Python does not
    if reason is not None:
        return reason
    row = json.loads(line.decode())
    if not isinstance(row, dict):
        return f"not an object but a {type(row).__name__}"
    row |= constants
    ids = [row[name] for name in columns["product_id"] if row.get(name) is not None]
    product = next((value for value in ids if str(value).strip()), None)
    if isinstance(product, list | dict):
        return "the product id is no text"
    present = [name for name in columns["review_text"] if name in row]
    if not present:
        return "no text of a review"
    if any(isinstance(row[name], list | dict) for name in present):
        return f"{present[0]} is not text"
    return None
