"""The checkpoint file: a CSV with exactly the columns that users of the summaries rely on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

COLUMNS = ("product_id", "abstracted_summary", "review_count")

# The csv module refuses fields above 128 KiB unless told otherwise.
csv.field_size_limit(2**31 - 1)
_HEADER_CHARS = 200  # shown of a header that is another


class SummaryRow(NamedTuple):
    """One product's summary; a tuple, since a merge goes through millions of them."""

    product_id: str
    abstracted_summary: str
    review_count: int


class SummaryWriter:
    """Writes rows, after the header, to a text file opened with ``newline=""``."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def write(self, row: SummaryRow) -> None:
        """Append one row."""
        self._writer.writerow(row)


def encode_rows(rows: Iterable[SummaryRow]) -> bytes:
    """Rows as the UTF-8 content of a checkpoint file."""
    text = io.StringIO(newline="")
    writer = SummaryWriter(text)
    for row in rows:
        writer.write(row)
    return text.getvalue().encode()


def decode_rows(content: bytes) -> list[SummaryRow]:
    """Rows of a checkpoint file.

    Raises:
        ValueError: it is not UTF-8, its columns are others, or a row does not fit them.
    """
    return list(read_rows(io.StringIO(content.decode(), newline="")))


def read_rows(file: Iterable[str]) -> Iterator[SummaryRow]:
    """Rows of an open summary CSV, one at a time.

    Raises:
        ValueError: the columns are others, or a row does not fit them.
    """
    reader = csv.reader(file)
    try:
        header = tuple(next(reader, ()))
    except csv.Error as error:
        raise ValueError(f"line 1 is not CSV: {error}") from error
    if header != COLUMNS:
        found = ",".join(header)[:_HEADER_CHARS]
        raise ValueError(f"expected the columns {','.join(COLUMNS)}, found {found!r}")
    try:
        for row in reader:
            product_id, summary, review_count = row
            yield SummaryRow(product_id, summary, int(review_count))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {reader.line_num} is not a summary row: {error}") from error
