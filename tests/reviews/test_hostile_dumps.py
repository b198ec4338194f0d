from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.errors import DumpError, ReviewsumError
from reviewsum_assets.reviews import quarantine, readers, staging
from reviewsum_assets.reviews.fields import MOST_CHARS
from reviewsum_assets.reviews.grouping import GroupedReviews, group_reviews, scan_grouped
from reviewsum_assets.reviews.quarantine import QuarantinedRow
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.dumps import (
    FORMATS,
    Review,
    amazon_2018,
    cleaned_csv,
    json_lines,
    parquet,
    reviews_of,
    tsv,
    write,
)
from tests.support.hostile import damaged, examples, texts

GOOD = reviews_of("B1", 8)


def read(lake: Lake, path: str, **settings: object) -> GroupedReviews:
    record, _ = group_reviews(lake, load_settings(dumps=(path,), min_reviews=1, **settings))
    return record


def quarantined(lake: Lake, record: GroupedReviews) -> list[QuarantinedRow]:
    lines = (lake.get(record.quarantine_key) or b"").splitlines() if record.quarantine_key else []
    return [QuarantinedRow.model_validate_json(line) for line in lines]


@st.composite
def dumps(draw: st.DrawFn) -> bytes:
    """A dump of text, damaged before it was packed, after it, or both.

    Not of Parquet: forged lengths in it make polars end the process.
    """
    review = st.builds(Review, product=st.just("B1") | texts, text=st.just(GOOD[0].text) | texts)
    name = draw(st.sampled_from(["2014", "2018", "2023", "TSV", "CSV", "grouped"]))
    reviews = draw(st.lists(review, min_size=1, max_size=6))
    content = grouped_csv(reviews) if name == "grouped" else FORMATS[name](reviews)
    content = draw(damaged(content))
    if draw(st.booleans()):
        content = gzip.compress(content)
        content = draw(st.just(content) | damaged(content))
    return content


def grouped_csv(reviews: list[Review]) -> bytes:
    table = pl.DataFrame([{"product_id": r.product, "all_reviews": r.text} for r in reviews])
    return table.with_columns(review_count=pl.lit(5)).write_csv().encode()


@given(dumps(), st.integers(50, 5_000))
@examples(0.6)
def test_a_damaged_dump_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    batch_bytes: int,
) -> None:
    monkeypatch.setattr(readers, "BATCH_BYTES", batch_bytes)
    folder = tmp_path_factory.mktemp("case")
    lake = Lake.open(str(folder / "lake"))
    try:
        record = read(lake, write(folder / "dump", content))
    except ReviewsumError as error:
        assert "\n" not in str(error)
        return
    bad = quarantined(lake, record)
    assert len(bad) == record.counts.quarantined
    assert all(row.line >= 1 and row.reason.isprintable() for row in bad)
    table = scan_grouped(lake, record).collect()
    assert table["product_id"].is_unique().all()
    assert table["product_id"].str.len_chars().is_between(1, MOST_CHARS).all()
    assert table["avg_rating"].drop_nulls().is_finite().all()


PACKED = gzip.compress(json_lines(amazon_2018, GOOD))


@pytest.mark.parametrize(
    ("content", "kept", "reason"),
    [
        (PACKED + b"garbage behind it", 8, "Not a gzipped file"),
        (PACKED[:-8] + b"\0" * 8, 8, "CRC check failed"),
        (PACKED[:-9], 7, "ended before the end-of-stream marker"),
        (gzip.compress(b"\n".join(json_lines(amazon_2018, GOOD).splitlines())) + b"x", 7, "gzip"),
    ],
    ids=range(4),
)
def test_of_a_damaged_gzip_everything_before_the_damage_is_kept(
    lake: Lake, tmp_path: Path, content: bytes, kept: int, reason: str
) -> None:
    record = read(lake, write(tmp_path / "dump", content))
    (bad,) = quarantined(lake, record)
    assert (record.counts.reviews_read, bad.line) == (kept, kept + 1)
    assert "file is damaged from about here on" in bad.reason and reason in bad.reason


TABLE = pl.read_parquet(io.BytesIO(parquet(GOOD)))


def table(**columns: pl.Expr) -> bytes:
    buffer = io.BytesIO()
    TABLE.with_columns(**columns).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b" + b"no gzip at all", "cannot be unpacked"),
        (b"\x1f\x8b\x08\0", "cannot be unpacked"),
        (gzip.compress(b""), "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ('{"asin": "B1", "reviewText": "x"}\n'.encode("utf-16"), "the first: line 1: not UTF-8"),
        (b"PAR1", r"\(Parquet\) cannot be read"),
        (parquet(GOOD)[:-20], r"\(Parquet\) cannot be read"),
        (table(review_body=pl.concat_list("review_body")), "has no column of text named"),
        (table(review_body=pl.lit(b"\xff" * 30)), "no readable row; 1 are bad, the first: line 1"),
        (b"asin,text,asin\nB1,x,B2\n", "has several columns named asin: rename"),
        (b"asin\ttext\ttext\nB1\tx\ty\n", "has several columns named text: rename"),
    ],
    ids=range(11),
)
def test_what_is_no_dump_is_refused_in_a_sentence(
    lake: Lake, tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(DumpError, match=message) as caught:
        read(lake, write(tmp_path / "dump", content))
    assert "\n" not in str(caught.value)


def test_columns_that_mean_nothing_may_share_a_name(lake: Lake, tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a", b"x\tasin\tx\ttext\n1\tB1\t2\ta text that is long enough\n"),
        write(tmp_path / "b", b",asin,,text\n1,B2,2,a text that is long enough\n"),
    ]
    record, _ = group_reviews(lake, load_settings(dumps=tuple(paths), min_reviews=1))
    assert scan_grouped(lake, record).collect()["product_id"].sort().to_list() == ["B1", "B2"]


def test_a_product_id_with_a_nul_is_refused_and_not_merged(lake: Lake, tmp_path: Path) -> None:
    rows = cleaned_csv(GOOD)
    rows += rows.splitlines()[1].replace(b"B1", b"B\x001", 1) + b"\n"
    record = read(lake, write(tmp_path / "dump", rows))
    (bad,) = quarantined(lake, record)
    assert (bad.line, bad.reason) == (10, "the product id has control characters or line ends")
    assert scan_grouped(lake, record).collect()["review_count"].item() == 8


@pytest.mark.parametrize("count", ["-1", "1000000001", "9" * 30, "NaN", "5.5", ""])
def test_a_review_count_that_is_none_is_named(lake: Lake, tmp_path: Path, count: str) -> None:
    content = f"product_id,all_reviews,review_count\nB1,good,5\nB2,good,{count}\n"
    record = read(lake, write(tmp_path / "dump", content.encode()))
    (bad,) = quarantined(lake, record)
    assert bad.line == 3
    assert bad.reason.startswith("review_count is not")


def test_numbers_beyond_all_measure_count_as_none(lake: Lake, tmp_path: Path) -> None:
    hostile = {"overall": "NaN", "vote": "9223372036854775807", "unixReviewTime": "1e300"}
    more = [{**amazon_2018(Review(reviewer=f"Z{n}")), **hostile} for n in range(3)]
    more[1]["overall"] = "Infinity"
    content = json_lines(amazon_2018, GOOD) + json_lines(lambda _: more.pop(), GOOD[:3])
    record = read(lake, write(tmp_path / "dump", content.replace(b'"B000000001"', b'"B1"')))
    (row,) = scan_grouped(lake, record).collect().to_dicts()
    assert (row["review_count"], row["avg_rating"], row["total_helpful_votes"]) == (11, 5.0, 0)
    assert row["newest_review_timestamp"] == 17_000 * 86_400


def test_reviews_that_are_all_too_short_leave_an_empty_table(lake: Lake, tmp_path: Path) -> None:
    record = read(lake, write(tmp_path / "dump", tsv([Review(text="short")])))
    assert scan_grouped(lake, record).collect().is_empty()


def test_a_bucket_that_turns_out_too_large_is_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviews = [r for n in range(20) for r in reviews_of(f"B{n}", 6)]
    path = write(tmp_path / "dump", json_lines(amazon_2018, [*reviews, *reviews[:7]]))
    whole_lake, split_lake = (Lake.open(str(tmp_path / name)) for name in ("whole", "split"))
    whole = read(whole_lake, path)
    monkeypatch.setattr(staging, "_BUCKET_BYTES", 1_500)
    monkeypatch.setattr(staging, "MOST_IN_A_BUCKET", 3_000)
    monkeypatch.setattr(staging, "_MOST_BUCKETS", 2)
    split = read(split_lake, path)
    assert len(split.tables) > 2
    assert split.counts == whole.counts
    assert split.counts.duplicates == 7
    tables = [
        scan_grouped(lake, record).sort("product_id").collect()
        for lake, record in ((whole_lake, whole), (split_lake, split))
    ]
    assert tables[0].equals(tables[1])


def test_bad_rows_beyond_a_million_are_counted_but_not_listed(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST_LISTED", 3)
    monkeypatch.setattr(readers, "BATCH_BYTES", 50)
    record = read(lake, write(tmp_path / "dump", b"no\n" * 10 + json_lines(amazon_2018, GOOD)))
    assert record.counts.quarantined == 10
    listed = quarantined(lake, record)
    assert [row.line for row in listed] == [1, 2, 3, 4]
    assert listed[-1].reason.endswith("; from here on bad rows are counted, but not listed")


@pytest.mark.parametrize(
    "name", ["a%2Fb.json", "%2e%2e", "a b#?.json", "[a]*.json", "~a", "\u202ea.json", "😀", "a:b"]
)
def test_a_dump_may_have_any_name_that_a_lake_can_hold(
    lake: Lake, tmp_path: Path, name: str
) -> None:
    path = write(tmp_path / "lake" / "review_dumps" / name, json_lines(amazon_2018, GOOD))
    record, _ = group_reviews(lake, load_settings())
    assert [dump.name for dump in record.dumps] == [f"review_dumps/{name}"]
    assert read(Lake.open(str(tmp_path / "other")), path).counts.reviews_kept == 8


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x1b[31m", os.fsdecode(b"\xff")])
def test_a_dump_with_a_name_that_none_can_hold_is_not_passed_over(
    lake: Lake, tmp_path: Path, name: str
) -> None:
    path = write(tmp_path / "lake" / "review_dumps" / name, json_lines(amazon_2018, GOOD))
    with pytest.raises(ReviewsumError):
        group_reviews(lake, load_settings())
    with pytest.raises(ReviewsumError, match="illegal place"):
        read(Lake.open(str(tmp_path / "other")), path)


def test_a_link_that_leads_nowhere_is_named(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "review_dumps"
    write(folder / "a", json_lines(amazon_2018, GOOD))
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DumpError, match=r"broken is no file \(a link that leads nowhere"):
        group_reviews(lake, load_settings())


def test_a_pipe_is_not_waited_for(lake: Lake, tmp_path: Path) -> None:
    write(tmp_path / "lake" / "review_dumps" / "a", json_lines(amazon_2018, GOOD))
    os.mkfifo(tmp_path / "lake" / "review_dumps" / "b")
    with pytest.raises(DumpError, match="b is no file"):
        group_reviews(lake, load_settings())


def test_a_lake_may_lie_at_a_path_with_brackets(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake [1] *"))
    record = read(lake, write(tmp_path / "dump", json_lines(amazon_2018, GOOD)))
    assert scan_grouped(lake, record).collect()["review_count"].item() == 8
