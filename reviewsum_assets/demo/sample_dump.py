"""Writes the sample dump: reviews in the Amazon Reviews 2018 layout, with what real dumps suffer.

The same lines come out on every machine and Python version, so that the demonstration's plan and
partitions are always the same. Beside good reviews there are duplicate rows, markup, other
languages, reviews too short to use, products with too few reviews, and rows that cannot be read.
"""

from __future__ import annotations

import gzip
import json
import re
import string
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

from reviewsum_assets.demo import phrasebook
from reviewsum_assets.demo.product_grammar import Product, Review, draw_product, write_review
from reviewsum_assets.demo.product_kinds import KINDS

SAMPLE_DUMP_NAME = "sample_reviews.jsonl.gz"
SAMPLE_SEED = 20180913

Row = dict[str, Any]


@dataclass(frozen=True)
class SampleFacts:
    """What the sample dump holds, by count.

    ``products_kept`` have at least 5 different reviews of more than 20 characters,
    ``products_too_small`` have fewer. ``unusable_rows`` are readable but their text is missing,
    empty or at most 20 characters long. ``duplicate_rows`` repeat another row exactly.
    """

    products_kept: int = 320
    products_too_small: int = 10
    unusable_rows: int = 120
    foreign_rows: int = 90
    duplicate_rows: int = 60
    broken_rows: int = 12


SAMPLE_FACTS = SampleFacts()

_FEWEST_REVIEWS, _MOST_REVIEWS = 5, 60
# Well above the 20 characters of a usable review: cleaning markup shortens some texts.
_SHORTEST_TEXT = 30
_FIRST_DAY, _DAYS = date(2014, 1, 1), 1735
_UNUSABLE_TEXTS = (None, "", " ", "Good", "ok", "Works great!", "Love it", "👍👍👍", "Five stars")
_FIRST_NAMES = ("Ana", "Ben", "Carla", "Dev", "Emma", "Finn", "Grace", "Hugo", "Iris", "Jamal")
_HANDLES = ("Amazon Customer", "Kindle Customer", "bookworm77", "MrFixIt", "J. R.", "soccer mom")


def write_sample_dump(path: Path) -> None:
    """Write the dump, gzip-compressed; ``path`` is either absent or whole at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with (
            unfinished.open("wb") as file,
            # Neither name nor time may get into the header.
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed,
        ):
            compressed.write(b"".join(line + b"\n" for line in sample_lines()))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def sample_lines() -> Iterator[bytes]:
    """The lines of the dump, without line ends."""
    rng = Random(SAMPLE_SEED)
    reviews, asins = _reviews(rng)
    rows = [*reviews, *rng.sample(reviews, SAMPLE_FACTS.duplicate_rows), *_odd_rows(rng, asins)]
    rng.shuffle(rows)
    lines = [_encoded(row) for row in rows]
    broken = _broken_lines(rng)
    # One stretch of good rows before each broken row, and one after the last.
    stretch = len(lines) // (len(broken) + 1)
    for number, line in enumerate(lines, start=1):
        yield line
        if broken and number % stretch == 0:
            yield broken.pop()


def _reviews(rng: Random) -> tuple[list[Row], list[str]]:
    """All reviews worth reading, and the products, the kept ones first."""
    facts = SAMPLE_FACTS
    sizes = [_review_count(rng) for _ in range(facts.products_kept)]
    sizes += [1 + number % (_FEWEST_REVIEWS - 1) for number in range(facts.products_too_small)]
    asins = _identifiers(rng, "B0", 8, len(sizes))
    reviewers = _identifiers(rng, "A", 13, 1500)
    rows: list[Row] = []
    for number, (asin, size) in enumerate(zip(asins, sizes, strict=True)):
        product = draw_product(rng, KINDS[number % len(KINDS)])
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
        for text in islice(cycle(_UNUSABLE_TEXTS), SAMPLE_FACTS.unusable_rows)
    ]
    kept = asins[: SAMPLE_FACTS.products_kept]
    foreign = [
        _plain_row(rng, rng.choice(kept), rng.choice(reviewers), text)
        for text in islice(cycle(phrasebook.FOREIGN_REVIEWS), SAMPLE_FACTS.foreign_rows)
    ]
    return unusable + foreign


def _review_count(rng: Random) -> int:
    """Most products have few reviews, a few have many."""
    return _FEWEST_REVIEWS + int((_MOST_REVIEWS - _FEWEST_REVIEWS + 1) * rng.random() ** 3)


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
    row |= {
        "verified": rng.random() < 0.85,
        # The published files write the day of the month without a leading zero.
        "reviewTime": f"{day.month:02d} {day.day}, {day.year}",
        "reviewerID": reviewer,
        "asin": asin,
    }
    if rng.random() < 0.6:
        name, value = rng.choice(product.kind.styles).split(":")
        row["style"] = {f"{name}:": value}
    if rng.random() < 0.95:
        row["reviewerName"] = _reviewer_name(rng)
    row |= {
        "reviewText": _with_noise(rng, review.text),
        "summary": review.title,
        "unixReviewTime": (day - date(1970, 1, 1)).days * 86_400,
    }
    if rng.random() < 0.03:
        row["image"] = [f"https://images.example.com/{reviewer}-{asin}.jpg"]
    return row


def _plain_row(rng: Random, asin: str, reviewer: str, text: str | None) -> Row:
    product = draw_product(rng)
    row = _row(rng, asin, reviewer, write_review(rng, product), product)
    row.pop("style", None)
    return row | {"reviewText": text, "summary": None if text is None else "Review"}


def _reviewer_name(rng: Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(_HANDLES)
    return f"{rng.choice(_FIRST_NAMES)} {rng.choice(string.ascii_uppercase)}."


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
        return f"{text} {rng.choice(phrasebook.EMOJI)}"
    return text


def _broken_lines(rng: Random) -> list[bytes]:
    """Rows that no reader may count as reviews; none of them belongs to a product of the sample."""
    row = _plain_row(rng, "B0UNREADABLE", "AUNREADABLE", "Nobody can read this row.")
    whole = _encoded(row)
    without_product = _encoded({key: value for key, value in row.items() if key != "asin"})
    lines = [
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
    assert len(lines) == SAMPLE_FACTS.broken_rows
    return lines


def _encoded(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8")
