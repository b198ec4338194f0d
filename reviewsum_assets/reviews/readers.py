"""Reads a dump in batches of raw fields, telling bad rows apart line by line.

Batches are parsed by polars at once. Only where a batch holds something unreadable are its lines
looked at one by one, so that every bad row is named exactly and good dumps stay fast. Memory is
bounded by what a batch and a row may hold, not by the dump.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from reviewsum_assets.reviews.delimited import parse_tsv, read_csv
from reviewsum_assets.reviews.dumps import Dump
from reviewsum_assets.reviews.formats import DAMAGE, Format, Layout, open_unpacked, reader_of
from reviewsum_assets.reviews.json_lines import parse_json_lines
from reviewsum_assets.reviews.parquet import read_parquet
from reviewsum_assets.reviews.quarantine import BREAKS_OFF, BadRow
from reviewsum_assets.reviews.raw_batch import (
    MOST_ROW_LENGTH,
    TOO_LONG,
    RawBatch,
    without_nameless,
)

BATCH_BYTES = 32 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
_MOST_LINES = 200_000


def read_batches(dump: Dump, detected: Format) -> Iterator[RawBatch]:
    """Read a dump from start to end with bounded memory."""
    if detected.layout is Layout.PARQUET:
        yield from read_parquet(dump)
        return
    with dump.open() as raw, open_unpacked(raw, detected) as file:
        if detected.layout in (Layout.CSV, Layout.GROUPED_CSV):
            for part in read_csv(file, detected.columns):
                fields, bad = part.frame, part.bad
                if detected.layout is Layout.CSV:
                    fields, bad = without_nameless(fields, part.lines, bad)
                yield RawBatch(fields, bad, _position(raw, dump))
            return
        for lines, first, other_bad in _line_batches(file):
            if detected.layout is Layout.TSV:
                fields, bad = parse_tsv(lines, first, detected.columns)
            else:
                fields, bad = parse_json_lines(lines, first)
            yield RawBatch(fields, [*other_bad, *bad], _position(raw, dump))


def _position(raw: IO[bytes], dump: Dump) -> int:
    return dump.size if raw.closed else raw.tell()


def _line_batches(file: IO[bytes]) -> Iterator[tuple[list[bytes], int, list[BadRow]]]:
    """Whole lines, the number of the first of them, and what is bad among and behind them."""
    number = 1
    rest = b""
    ended = False
    while not ended:
        block, damage = _read_block(file)
        ended = bool(damage) or not block
        lines = (rest + block).split(b"\n")
        # Of a row that is too long no more is kept than shows that it is.
        rest = lines.pop()[: MOST_ROW_LENGTH + 1]
        if ended and rest and not damage:  # a last line without an end
            lines.append(rest)
        bad = []
        if lines and len(lines[0]) > MOST_ROW_LENGTH:
            bad.append(BadRow.of(number, TOO_LONG, lines[0]))
            lines[0] = b""
        # A block of hardly more than line ends would be too much for whoever parses it.
        for start in range(0, len(lines), _MOST_LINES):
            yield lines[start : start + _MOST_LINES], number + start, bad
            bad = []
        number += len(lines)
        if damage:
            yield [], number, [BadRow.of(number, damage, rest)]


def _read_block(file: IO[bytes]) -> tuple[bytes, str]:
    """The next block, and why there is no more behind it although there should be."""
    pieces: list[bytes] = []
    size = 0
    read = reader_of(file)
    try:
        while size < BATCH_BYTES:
            piece = read(min(_PIECE_BYTES, BATCH_BYTES - size))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
    except DAMAGE as error:
        return b"".join(pieces), f"{BREAKS_OFF}: {error}"
    return b"".join(pieces), ""
