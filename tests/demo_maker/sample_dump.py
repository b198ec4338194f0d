"""Maker of the sample dump: reviews in the Amazon Reviews 2018 layout with defects of real dumps.

``python -m tests.demo_maker.sample_dump FILE`` writes it. Every machine and Python version makes
the same lines; compressed bytes depend on the zlib library too. Some rows are duplicates, hold
markup, are in other languages, too short or unreadable, or belong to products with too few reviews.
"""

from __future__ import annotations

import gzip
import json
import re
import string
import sys
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

from tests.demo_maker.language import LANGUAGE
from tests.demo_maker.reviews import Product, Review, draw_product, write_review

Row = dict[str, Any]

_SEED = 20180913
# Kept products have at least 5 different reviews of more than 20 characters; unusable rows have a
# text of at most 20 characters, or none; a duplicate row repeats another exactly.
_PRODUCTS_KEPT, _PRODUCTS_TOO_SMALL = 320, 10
_UNUSABLE_ROWS, _FOREIGN_ROWS, _DUPLICATE_ROWS = 120, 90, 60
_FEWEST_REVIEWS, _MOST_REVIEWS = 5, 60
# Well above the 20 characters of a usable review: cleaning markup shortens some texts.
_SHORTEST_TEXT = 30
_FIRST_DAY, _DAYS = date(2014, 1, 1), 1735


def write_sample_dump(path: Path) -> None:
    """Write the dump, gzip-compressed."""
    # Neither name nor time may get into the header.
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
        compressed.write(b"".join(line + b"\n" for line in sample_lines()))


def sample_lines() -> Iterator[bytes]:
    """Make the lines of the dump, without line ends."""
    rng = Random(_SEED)
    reviews, asins = _reviews(rng)
    rows = [*reviews, *rng.sample(reviews, _DUPLICATE_ROWS), *_odd_rows(rng, asins)]
    rng.shuffle(rows)
    broken = _broken_lines(rng)
    # One stretch of good rows before each broken row, and one after the last.
    stretch = len(rows) // (len(broken) + 1)
    for number, row in enumerate(rows, start=1):
        yield _encoded(row)
        if broken and number % stretch == 0:
            yield broken.pop()


def _reviews(rng: Random) -> tuple[list[Row], list[str]]:
    """All reviews worth reading, and the products, the kept ones first."""
    sizes = [
        _FEWEST_REVIEWS + int((_MOST_REVIEWS - _FEWEST_REVIEWS + 1) * rng.random() ** 3)
        for _ in range(_PRODUCTS_KEPT)
    ]
    sizes += [1 + number % (_FEWEST_REVIEWS - 1) for number in range(_PRODUCTS_TOO_SMALL)]
    asins = _identifiers(rng, "B0", 8, len(sizes))
    reviewers = _identifiers(rng, "A", 13, 1500)
    rows: list[Row] = []
    for number, (asin, size) in enumerate(zip(asins, sizes, strict=True)):
        product = draw_product(rng, LANGUAGE.kinds[number % len(LANGUAGE.kinds)])
        authors = rng.sample(reviewers, size)
        texts = _different_reviews(rng, product, size)
        rows += [_row(rng, asin, *pair, product) for pair in zip(authors, texts, strict=True)]
    return rows, asins


def _odd_rows(rng: Random, asins: Sequence[str]) -> list[Row]:
    """Rows without a usable text, and rows in other languages."""
    reviewers = _identifiers(rng, "A", 13, 200)
    # The products that are too small get unusable rows too: counting rows is not enough.
    unusable = [
        _plain_row(rng, rng.choice(asins), rng.choice(reviewers), text)
        for text in islice(cycle(LANGUAGE.unusable_texts), _UNUSABLE_ROWS)
    ]
    kept = asins[:_PRODUCTS_KEPT]
    foreign = [
        _plain_row(rng, rng.choice(kept), rng.choice(reviewers), text)
        for text in islice(cycle(LANGUAGE.foreign_reviews), _FOREIGN_ROWS)
    ]
    return unusable + foreign


def _identifiers(rng: Random, prefix: str, length: int, count: int) -> list[str]:
    alphabet = string.ascii_uppercase + string.digits
    made: dict[str, None] = {}
    while len(made) < count:
        made[prefix + "".join(rng.choices(alphabet, k=length))] = None
    return list(made)


def _different_reviews(rng: Random, product: Product, count: int) -> list[Review]:
    made: dict[str, Review] = {}
    while len(made) < count:
        review = write_review(rng, product)
        if len(review.text) >= _SHORTEST_TEXT:
            made.setdefault(review.text, review)
    return list(made.values())


def _row(rng: Random, asin: str, reviewer: str, review: Review, product: Product) -> Row:
    """A row in the order of fields that the published files have."""
    day = _FIRST_DAY + timedelta(days=rng.randrange(_DAYS))
    row: Row = {"overall": float(review.stars)}
    if rng.random() < 0.3:
        row["vote"] = f"{2 + int(1500 * rng.random() ** 8):,}"
    row["verified"] = rng.random() < 0.85
    # The published files write the day of the month without a leading zero.
    row["reviewTime"] = f"{day.month:02d} {day.day}, {day.year}"
    row |= {"reviewerID": reviewer, "asin": asin}
    if rng.random() < 0.6:
        name, value = rng.choice(product.kind.styles).split(":")
        row["style"] = {f"{name}:": value}
    if rng.random() < 0.95:
        row["reviewerName"] = _reviewer_name(rng)
    row |= {"reviewText": _with_noise(rng, review.text), "summary": review.title}
    row["unixReviewTime"] = (day - date(1970, 1, 1)).days * 86_400
    if rng.random() < 0.03:
        row["image"] = [f"https://images.example.com/{reviewer}-{asin}.jpg"]
    return row


def _reviewer_name(rng: Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(LANGUAGE.handles)
    return f"{rng.choice(LANGUAGE.first_names)} {rng.choice(string.ascii_uppercase)}."


def _plain_row(rng: Random, asin: str, reviewer: str, text: str | None) -> Row:
    product = draw_product(rng)
    row = _row(rng, asin, reviewer, write_review(rng, product), product)
    row.pop("style", None)
    return row | {"reviewText": text, "summary": None if text is None else "Review"}


def _with_noise(rng: Random, text: str) -> str:
    """Leave most texts alone; give the others markup, addresses or emoji as real ones have."""
    kind = rng.random()
    if kind < 0.06:
        return text.replace(". ", ".<br /><br />", 1)
    if kind < 0.10:
        return text.replace(" and ", " &amp; ", 1)
    if kind < 0.12:
        return re.sub(r"\b(great|terrible|love|hate|best)\b", r"&quot;\1&quot;", text, count=1)
    if kind < 0.14:
        return f'{text} I chose it over <a href="https://www.example.com/dp/42">this one</a>.'
    if kind < 0.16:
        return f"{text} More photos: https://www.example.com/photos/{rng.randrange(10_000)}"
    if kind < 0.22:
        return f"{text} {rng.choice(LANGUAGE.emoji)}"
    return text


def _broken_lines(rng: Random) -> list[bytes]:
    """Rows that no reader may count as reviews; none of them belongs to a product of the sample."""
    row = _plain_row(rng, "B0UNREADABLE", "AUNREADABLE", "Nobody can read this row.")
    whole = _encoded(row)
    without_product = _encoded({key: value for key, value in row.items() if key != "asin"})
    return [
        whole[: len(whole) // 2],
        whole[:-1],
        whole[1:],
        b'{"overall": 5.0, "reviewText": "cut off in the middle of a wo',
        b"<html><body>503 Service Unavailable</body></html>",
        b"Traceback (most recent call last):",
        b"[" + whole + b"]",
        without_product,
        without_product.replace(b"overall", b"rating"),
        whole.replace(b"Nobody", b"Nobod\xff\xfe"),
        whole.replace(b"can read", b"can \xc3( read"),
        b"20180913",
    ]


def _encoded(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.demo_maker.sample_dump FILE")
    write_sample_dump(Path(sys.argv[1]))
