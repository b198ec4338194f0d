"""The sample dump is the one that its maker makes, and holds every defect of a real dump."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reviewsum_assets.demo import SAMPLE_DUMP
from tests.demo_maker.language import LANGUAGE
from tests.demo_maker.sample_dump import sample_lines, write_sample_dump

Row = dict[str, Any]


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return gzip.decompress(SAMPLE_DUMP.read_bytes()).split(b"\n")[:-1]


@pytest.fixture(scope="module")
def rows(lines: list[bytes]) -> list[Row]:
    return [row for row in map(_review_or_none, lines) if row is not None]


@pytest.fixture(scope="module")
def usable(rows: list[Row]) -> list[Row]:
    return [row for row in rows if len(row["reviewText"] or "") > 20]


def _review_or_none(line: bytes) -> Row | None:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    return row if isinstance(row, dict) and "asin" in row else None


def _identity(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("reviewerID", "asin", "unixReviewTime", "reviewText"))


def test_the_maker_makes_the_dump_byte_for_byte(lines: list[bytes]) -> None:
    assert list(sample_lines()) == lines


def test_two_dumps_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "a.gz", tmp_path / "b.gz"
    write_sample_dump(first)
    write_sample_dump(second)
    assert first.read_bytes() == second.read_bytes()


def test_320_products_have_five_different_usable_reviews_and_ten_have_fewer(
    usable: list[Row],
) -> None:
    reviews: defaultdict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for row in usable:
        reviews[row["asin"]].add(_identity(row))
    kept = [asin for asin, different in reviews.items() if len(different) >= 5]
    assert (len(kept), len(reviews) - len(kept)) == (320, 10)


def test_60_rows_repeat_usable_reviews_exactly(usable: list[Row]) -> None:
    repeats = Counter(map(_identity, usable))
    assert sum(repeats.values()) - len(repeats) == 60


def test_120_rows_are_unusable(rows: list[Row], usable: list[Row]) -> None:
    assert len(rows) - len(usable) == 120


def test_90_rows_are_in_other_languages(usable: list[Row]) -> None:
    texts = {_identity(row): row["reviewText"] for row in usable}.values()
    assert sum(text in LANGUAGE.foreign_reviews for text in texts) == 90


def test_12_broken_rows_stand_between_good_ones(lines: list[bytes]) -> None:
    readable = [_review_or_none(line) is not None for line in lines]
    assert readable.count(False) == 12
    assert readable[0] and readable[-1]
    assert all(before or after for before, after in pairwise(readable))
    assert len([line for line in lines if b"\xff" in line or b"\xc3(" in line]) == 2


@pytest.mark.parametrize("noise", ["<br />", "<a href=", "&amp;", "&quot;", "https://", "👍", "ü"])
def test_real_noise_is_present(usable: list[Row], noise: str) -> None:
    assert any(noise in row["reviewText"] for row in usable)
