"""Makes what the stages read, at any size: dumps, texts of products, tables of grouped reviews.

Texts are clauses of the sample dump's reviews in random order: made in microseconds, hardly two
alike. Equal arguments always give equal content.
"""

from __future__ import annotations

import gzip
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path
from random import Random

import polars as pl

from reviewsum_assets.demo import SAMPLE_DUMP

_SEED = 20180913
_CLAUSES = 20_000
# So many clauses a review, and texts of 190 characters in the mean, as Electronics of 2018 has.
_CLAUSES_A_REVIEW = (1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 11)
_REVIEWERS = 700_000
_FIRST_DAY, _DAYS = 14_610, 2_800  # counted from 1970: 2010 to 2017
_SHORT_SHARE, _REPEATED_SHARE, _VOTED_SHARE, _STYLED_SHARE = 0.03, 0.01, 0.15, 0.6
# Reviews of 30,700 products hold some 300,000 words that occur once, by Heaps' law: so many of a
# product's 3,500 characters are its own.
_CHARS_A_RARE_WORD = 350
_PRODUCTS_A_PART = 20_000


def write_dump(path: Path, reviews: int, products: int) -> None:
    """Write reviews as JSON lines in the layout of Amazon Reviews 2018, about 430 bytes each.

    Some products have many more reviews than others. Beside good reviews there are some too
    short to use and some that repeat the line before; one in twenty holds markup or an address.
    """
    rng = Random(_SEED)
    clauses = [json.dumps(clause, ensure_ascii=False)[1:-1] for clause in _clauses(rng)]
    line = ""
    with path.open("w", encoding="utf-8") as file:
        for _ in range(reviews):
            if not line or rng.random() >= _REPEATED_SHARE:
                line = _line(rng, clauses, products)
            file.write(line)


def product_texts(count: int, chars: int) -> Iterator[str]:
    """Texts of products, of ``chars`` characters each: reviews, one a line."""
    rng = Random(_SEED)
    clauses = _clauses(rng)
    mean_chars = sum(map(len, clauses)) / len(clauses) + 1
    so_many = int(1.2 * chars / mean_chars) + 10
    for _ in range(count):
        chosen = rng.choices(clauses, k=so_many)
        for place in range(0, so_many, max(1, int(_CHARS_A_RARE_WORD / mean_chars))):
            chosen[place] += f" {_rare_word(rng)}"
        reviews = (" ".join(chosen[start : start + 4]) for start in range(0, so_many, 4))
        yield "\n".join(reviews)[:chars]


def product_id(number: int) -> str:
    """An identifier as Amazon's."""
    return f"B{number:09d}"


def write_grouped(directory: Path, products: int, chars: int) -> None:
    """Write grouped reviews as Parquet in parts: all that a plan reads."""
    directory.mkdir(parents=True)
    texts = product_texts(products, chars)
    for start in range(0, products, _PRODUCTS_A_PART):
        numbers = range(start, min(start + _PRODUCTS_A_PART, products))
        part = (
            pl.DataFrame(
                {
                    "product_id": [product_id(number) for number in numbers],
                    "all_reviews": [next(texts) for _ in numbers],
                    "review_count": [5 + (products - number) // 10 for number in numbers],
                }
            )
            .with_columns(
                review_places=pl.int_ranges(
                    0,
                    pl.col("all_reviews").str.count_matches("\n", literal=True) + 1,
                    dtype=pl.Int32,
                )
            )
            .with_columns(
                review_ratings=pl.col("review_places").list.eval(
                    pl.element().cast(pl.Float32) % 5 + 1
                )
            )
        )
        part.write_parquet(directory / f"part_{start:09d}.parquet", compression="zstd")


def _line(rng: Random, clauses: list[str], products: int) -> str:
    """One review; JSON written by hand, five times as fast."""
    rank = int(products * rng.random() ** 2)  # half of the reviews are of a quarter of the products
    day = _FIRST_DAY + int(_DAYS * rng.random())
    stars = rng.choice((1, 2, 3, 4, 4, 5, 5, 5, 5, 5))
    votes = (
        f'"vote": "{2 + int(1500 * rng.random() ** 8):,}", ' if rng.random() < _VOTED_SHARE else ""
    )
    style = '"style": {"Color:": " Black"}, ' if rng.random() < _STYLED_SHARE else ""
    count = rng.choice(_CLAUSES_A_REVIEW)
    text = "ok" if rng.random() < _SHORT_SHARE else " ".join(rng.choices(clauses, k=count))
    return (
        f'{{"overall": {stars}.0, {votes}"verified": true, "reviewTime": "07 14, 2014", '
        f'"reviewerID": "A{int(_REVIEWERS * rng.random()):013d}", '
        f'"asin": "{product_id(rank)}", {style}"reviewerName": "Amazon Customer", '
        f'"reviewText": "{text}", "summary": "{rng.choice(clauses)}", '
        f'"unixReviewTime": {day * 86_400}}}\n'
    )


def _clauses(rng: Random) -> list[str]:
    with gzip.open(SAMPLE_DUMP, "rt", encoding="utf-8", errors="replace") as file:
        texts = re.findall(r'"reviewText": "([^"\\]+)"', file.read())
    clauses = [clause for text in texts for clause in re.split(r"(?<=[.!?;]) ", text)]
    return rng.choices(clauses, k=_CLAUSES)


def _rare_word(rng: Random) -> str:
    """A word that hardly occurs twice, such as a misspelled one or a part's number."""
    return "".join(rng.choices(string.ascii_lowercase + string.digits, k=7))
