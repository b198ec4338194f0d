from __future__ import annotations

from pathlib import Path

import pytest

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import find_dumps
from reviewsum_assets.reviews.formats import Layout, detect_format
from reviewsum_assets.reviews.grouping import group_reviews, scan_grouped
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.dumps import FORMATS, Review, amazon_2018, json_lines, reviews_of, write

LAYOUTS = {
    "2014": Layout.JSON_LINES,
    "2018": Layout.JSON_LINES,
    "2023": Layout.JSON_LINES,
    "TSV": Layout.TSV,
    "CSV": Layout.CSV,
    "Parquet": Layout.PARQUET,
}
REVIEWS = [
    *reviews_of("B1", 6, votes=1234, rating=4),
    *reviews_of("B2", 5, day=16_000),
    Review("B2", "Z9", 'It said "great", and it was; really & truly.', votes=7, day=16_500),
]


def detected(lake: Lake, path: str) -> Layout:
    (dump,) = find_dumps(lake, load_settings(dumps=(path,)))
    return detect_format(dump).layout


def table(lake: Lake, *paths: str) -> list[tuple[object, ...]]:
    record, _ = group_reviews(lake, load_settings(dumps=paths))
    columns = [
        "product_id",
        "all_reviews",
        "all_user_summaries",
        "avg_rating",
        "review_count",
        "total_helpful_votes",
        "oldest_review_timestamp",
        "newest_review_timestamp",
    ]
    return sorted(scan_grouped(lake, record).select(columns).collect().iter_rows())


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "Parquet"])
def test_a_format_is_known_by_its_content(
    lake: Lake, tmp_path: Path, name: str, zipped: bool
) -> None:
    path = write(tmp_path / "misleading.xls", FORMATS[name](REVIEWS), zipped=zipped)
    assert detected(lake, path) is LAYOUTS[name]


@pytest.mark.parametrize("name", ["2014", "2023", "TSV", "CSV", "Parquet"])
def test_the_same_reviews_give_the_same_table_in_every_format(tmp_path: Path, name: str) -> None:
    expected = table(
        Lake.open(str(tmp_path / "a")), write(tmp_path / "expected", FORMATS["2018"](REVIEWS))
    )
    assert len(expected) == 2
    found = table(Lake.open(str(tmp_path / "b")), write(tmp_path / "found", FORMATS[name](REVIEWS)))
    assert found == expected


def test_formats_can_be_mixed_and_overlap(tmp_path: Path, lake: Lake) -> None:
    expected = table(lake, write(tmp_path / "whole", FORMATS["2018"](REVIEWS)))
    parts = [
        write(tmp_path / "a", FORMATS["2023"](REVIEWS[:8]), zipped=True),
        write(tmp_path / "b", FORMATS["Parquet"](REVIEWS[4:])),
        write(tmp_path / "c", FORMATS["TSV"](REVIEWS[2:9])),
    ]
    assert table(Lake.open(str(tmp_path / "other")), *parts) == expected


@pytest.mark.parametrize("name", ["2018", "TSV", "CSV"])
def test_a_byte_order_mark_and_windows_line_ends_are_borne(
    tmp_path: Path, lake: Lake, name: str
) -> None:
    expected = table(lake, write(tmp_path / "plain", FORMATS[name](REVIEWS)))
    content = FORMATS[name](REVIEWS).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    path = write(tmp_path / "windows", b"\xef\xbb\xbf" + content)
    assert table(Lake.open(str(tmp_path / "other")), path) == expected


def test_broken_rows_may_come_first(tmp_path: Path, lake: Lake) -> None:
    content = b"not json\n\n[1, 2]\n" + json_lines(amazon_2018, REVIEWS)
    assert detected(lake, write(tmp_path / "dump", content)) is Layout.JSON_LINES


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"hello\nworld\n", "found a first line of 'hello'"),
        (b'{"name": "x", "price": 3}\n', "found JSON with the keys name, price"),
        (b'[{"asin": "B", "reviewText": "x"}]\n', "found JSON that is a list"),
        (b"id,name\n1,x\n", "found a first line of 'id,name'"),
    ],
)
def test_an_unknown_format_says_what_was_expected_and_found(
    tmp_path: Path, lake: Lake, content: bytes, found: str
) -> None:
    path = write(tmp_path / "dump", content)
    with pytest.raises(DumpError, match="expected JSON lines of Amazon reviews") as caught:
        detected(lake, path)
    assert path in str(caught.value)
    assert found in str(caught.value)
