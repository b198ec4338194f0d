"""The sample dump is always the same, and holds exactly what its facts say."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reviewsum_assets.demo.product_kinds import KINDS
from reviewsum_assets.demo.sample_dump import (
    SAMPLE_DUMP_NAME,
    SAMPLE_FACTS,
    sample_lines,
    write_sample_dump,
)

Row = dict[str, Any]


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return list(sample_lines())


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


def test_two_dumps_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / SAMPLE_DUMP_NAME, tmp_path / "b" / SAMPLE_DUMP_NAME
    write_sample_dump(first)
    write_sample_dump(second)
    assert first.read_bytes() == second.read_bytes()


def test_the_dump_is_the_lines_compressed_and_nothing_else_is_left(
    tmp_path: Path, lines: list[bytes]
) -> None:
    write_sample_dump(tmp_path / SAMPLE_DUMP_NAME)
    assert gzip.decompress((tmp_path / SAMPLE_DUMP_NAME).read_bytes()).split(b"\n") == [*lines, b""]
    assert [path.name for path in tmp_path.iterdir()] == [SAMPLE_DUMP_NAME]


def test_no_line_contains_a_line_end(lines: list[bytes]) -> None:
    assert not [line for line in lines if b"\n" in line or b"\r" in line or not line.strip()]


def test_as_many_products_as_promised_have_five_different_usable_reviews(
    usable: list[Row],
) -> None:
    reviews: defaultdict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for row in usable:
        reviews[row["asin"]].add(_identity(row))
    kept = [asin for asin, different in reviews.items() if len(different) >= 5]
    assert len(kept) == SAMPLE_FACTS.products_kept
    assert len(reviews) - len(kept) == SAMPLE_FACTS.products_too_small


def test_duplicate_rows_repeat_usable_reviews_exactly(usable: list[Row]) -> None:
    repeats = Counter(map(_identity, usable))
    assert sum(repeats.values()) - len(repeats) == SAMPLE_FACTS.duplicate_rows


def test_unusable_rows_are_as_many_as_promised(rows: list[Row], usable: list[Row]) -> None:
    assert len(rows) - len(usable) == SAMPLE_FACTS.unusable_rows


def test_broken_rows_cannot_be_read_as_reviews(lines: list[bytes]) -> None:
    broken = [line for line in lines if _review_or_none(line) is None]
    assert len(broken) == SAMPLE_FACTS.broken_rows


def test_broken_rows_stand_between_good_ones(lines: list[bytes]) -> None:
    readable = [_review_or_none(line) is not None for line in lines]
    assert readable[0]
    assert readable[-1]
    assert all(before or after for before, after in pairwise(readable))


def test_some_broken_rows_are_not_utf8(lines: list[bytes]) -> None:
    undecodable = [line for line in lines if b"\xff" in line or b"\xc3(" in line]
    assert len(undecodable) == 2


def test_fields_are_those_of_the_published_files(rows: list[Row]) -> None:
    assert set().union(*rows) == {
        "overall", "vote", "verified", "reviewTime", "reviewerID", "asin", "style",
        "reviewerName", "reviewText", "summary", "unixReviewTime", "image",
    }  # fmt: skip


def test_review_time_and_unix_time_name_the_same_day(rows: list[Row]) -> None:
    for row in rows:
        day = datetime.strptime(row["reviewTime"], "%m %d, %Y").replace(tzinfo=timezone.utc)
        assert day.timestamp() == row["unixReviewTime"]


def test_votes_are_text_and_the_large_ones_have_a_comma(rows: list[Row]) -> None:
    votes = [row["vote"] for row in rows if "vote" in row]
    assert {type(vote) for vote in votes} == {str}
    assert any("," in vote for vote in votes)
    assert len(votes) < len(rows)


@pytest.mark.parametrize("noise", ["<br />", "<a href=", "&amp;", "&quot;", "https://", "👍", "ü"])
def test_real_noise_is_present(usable: list[Row], noise: str) -> None:
    assert any(noise in row["reviewText"] for row in usable)


def test_stars_follow_the_words(usable: list[Row]) -> None:
    returned = [row["overall"] for row in usable if "I sent it back" in row["reviewText"]]
    recommended = [row["overall"] for row in usable if "ighly recommended" in row["reviewText"]]
    assert sum(returned) / len(returned) < 2.5
    assert sum(recommended) / len(recommended) > 3.5


def test_every_kind_of_product_is_reviewed(usable: list[Row]) -> None:
    text = " ".join(row["reviewText"].lower() for row in usable)
    assert [kind.name for kind in KINDS if kind.name.lower() not in text] == []
