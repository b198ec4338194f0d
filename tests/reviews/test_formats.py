from __future__ import annotations

import gzip
import io
from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.dumps import find_dumps
from reviewsum_assets.reviews.formats import Layout, detect_format
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.reviews.support import group
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
    return detect_format(dump, {}).layout


def table(folder: Path, *dumps: bytes) -> pl.DataFrame:
    return group(Lake.open(str(folder)), *dumps, min_reviews=5).products.drop(
        "dominant_style", "review_verified"
    )


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "Parquet"])
def test_a_format_is_detected_from_content(
    lake: Lake, tmp_path: Path, name: str, zipped: bool
) -> None:
    path = write(tmp_path / "misleading.xls", FORMATS[name](REVIEWS), zipped=zipped)
    assert detected(lake, path) is LAYOUTS[name]


@pytest.mark.parametrize("name", ["2014", "2023", "TSV", "CSV", "Parquet"])
def test_the_same_reviews_give_the_same_table_in_every_format(tmp_path: Path, name: str) -> None:
    expected = table(tmp_path / "a", FORMATS["2018"](REVIEWS))
    assert expected.height == 2
    assert table(tmp_path / "b", FORMATS[name](REVIEWS)).equals(expected)


def test_formats_can_be_mixed_and_overlap(tmp_path: Path) -> None:
    expected = table(tmp_path / "a", FORMATS["2018"](REVIEWS))
    parts = [
        gzip.compress(FORMATS["2023"](REVIEWS[:8])),
        FORMATS["Parquet"](REVIEWS[4:]),
        FORMATS["TSV"](REVIEWS[2:9]),
    ]
    assert table(tmp_path / "b", *parts).equals(expected)


@pytest.mark.parametrize("name", ["2018", "TSV", "CSV"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path, name: str) -> None:
    content = FORMATS[name](REVIEWS)
    windows = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    expected = table(tmp_path / "a", content)
    assert table(tmp_path / "b", b"\xef\xbb\xbf" + windows).equals(expected)


def test_broken_rows_may_come_first(tmp_path: Path, lake: Lake) -> None:
    content = b"not json\n\n[1, 2]\n" + json_lines(amazon_2018, REVIEWS)
    assert detected(lake, write(tmp_path / "dump", content)) is Layout.JSON_LINES


PARQUET = FORMATS["Parquet"](REVIEWS)


def parquet_with(review_body: pl.Expr) -> bytes:
    buffer = io.BytesIO()
    pl.read_parquet(PARQUET).with_columns(review_body=review_body).write_parquet(buffer)
    return buffer.getvalue()


EXPECTED = "expected JSON lines, a JSON array, CSV"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", f"is empty: {EXPECTED}"),
        (b"\n \n", "is empty"),
        ("\u2028".encode(), "is of unknown format"),
        (b"hello\nworld\n", f"{EXPECTED}.* found a first line of 'hello'"),
        (b'{"name": "x", "price": 3}\n', "its columns are name, price. To fix"),
        (b"[1, 2]\n", "found JSON that is a list"),
        (b"id,name\n1,x\n", r"its columns are id, name\. To fix.*--columns product_id="),
        (b"\x1f\x8b" + b"no gzip at all", "cannot be unpacked"),
        (b"\x1f\x8b\x08\0", "cannot be unpacked"),
        (gzip.compress(b""), "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"PAR1", r"\(Parquet\) cannot be read"),
        (PARQUET[:-20], r"\(Parquet\) cannot be read"),
        (parquet_with(pl.concat_list("review_body")), r"review_body: List\(String\)"),
        (parquet_with(pl.lit(b"\xff" * 30)), "no readable row; 1 are bad, the first: line 1"),
        (b"asin,text,asin\nB1,x,B2\n", "has several columns named asin"),
        (b"asin\ttext\ttext\nB1\tx\ty\n", "has several columns named text"),
        (b"asin\ttext\nx\ny\tz\tz\n", "no readable row; 2 are bad, the first: line 2: 1 col"),
    ],
    ids=range(18),
)
def test_a_hostile_file_that_is_no_dump_is_refused_in_a_sentence(
    lake: Lake, content: bytes, message: str
) -> None:
    with pytest.raises(DumpError, match=message) as caught:
        group(lake, content)
    assert "\n" not in str(caught.value)


def test_meaningless_columns_may_share_a_name(lake: Lake) -> None:
    found = group(
        lake,
        b"x\tasin\tx\ttext\n1\tB1\t2\ta text that is long enough\n",
        b",asin,,text\n1,B2,2,a text that is long enough\n",
    )
    assert found.products["product_id"].to_list() == ["B1", "B2"]
