from __future__ import annotations

import io
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews import staging
from reviewsum_assets.reviews.fields import GROUPED_SCHEMA
from reviewsum_assets.reviews.grouped import (
    current_grouped_reviews,
    is_current,
    scan_grouped,
    stale_dumps,
    why_no_product,
)
from reviewsum_assets.reviews.grouping import Progress, group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.reviews.support import group, grouped
from tests.support.dumps import FORMATS, Review, amazon_2018, json_lines, reviews_of, tsv, write
from tests.support.pipeline import texts, write_dump

GROUPED_CSV = (
    "product_id,all_reviews,review_count,avg_rating\n"
    'B1,"Good, <b>really</b> good",9,4.5\n'
    "B2,Bad,4,1.0\n"
    "B1,Again,7,3.0\n"
    ",No id,7,3.0\n"
    "B3,No count,many,3.0\n"
    "B4,Fine,5.0,\n"
    "B5,Odd,5.5,\n"
)


def test_the_most_helpful_reviews_come_first_then_the_most_recent(lake: Lake) -> None:
    reviews = [
        Review(reviewer="A", text="third: an older one without votes", day=1),
        Review(reviewer="B", text="first: the one with most of votes", votes=9, day=2),
        Review(reviewer="C", text="second: the newest one without votes", day=3),
    ]
    products = group(lake, reviews).products
    assert products.schema == GROUPED_SCHEMA
    firsts = [text.split(":")[0] for text in products["all_reviews"].item().split("\n")]
    assert firsts == ["first", "second", "third"]


def test_the_table_does_not_depend_on_how_reviews_are_spread_over_dumps(tmp_path: Path) -> None:
    reviews = [r for n in range(9) for r in reviews_of(f"B{n}", 7, votes=n % 2, style="Red")]
    tables = []
    for seed in range(4):
        random.Random(seed).shuffle(reviews)
        cut = random.Random(seed).randrange(1, len(reviews) - 1)
        lake = Lake.open(str(tmp_path / f"lake-{seed}"))
        tables.append(group(lake, reviews[:cut], reviews[cut:]).products)
    assert all(table.equals(tables[0]) for table in tables)


def test_the_hour_of_a_review_which_some_formats_lack_changes_nothing(tmp_path: Path) -> None:
    reviews = [
        replace(review, second=3_600 * ((n * 7) % 24))
        for n, review in enumerate(reviews_of("B1", 20))
    ]
    tables = []
    for formats in (["2018"], ["2023"], ["TSV"], ["2018", "TSV", "2023"]):
        lake = Lake.open(str(tmp_path / "-".join(formats)))
        found = group(lake, *(FORMATS[name](reviews) for name in formats))
        tables.append(found.products.select("all_reviews", "review_count").rows())
    assert tables == [tables[0]] * 4


@pytest.mark.parametrize("change", [{"reviewer": "Z"}, {"day": 9}, {"text": "x" * 30}])
def test_a_review_that_differs_is_no_duplicate(lake: Lake, change: dict[str, object]) -> None:
    other = Review(**change)  # type: ignore[arg-type]  # fields of Review, by name
    assert group(lake, [Review(), other]).record.counts.duplicates == 0


@pytest.mark.parametrize(("reviewer", "duplicates"), [('"A1"', 1), ('"  "', 0), ("null", 0)])
def test_only_reviews_that_name_their_reviewer_are_known_to_be_the_same(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, reviewer: str, duplicates: int
) -> None:
    row = f'{{"asin": "B1", "reviewerID": {reviewer}, "reviewText": "the very same text twice"}}\n'
    for most_in_a_bucket in (staging.MOST_IN_A_BUCKET, 1):  # repeated rows of split buckets too
        monkeypatch.setattr(staging, "MOST_IN_A_BUCKET", most_in_a_bucket)
        content = row.encode() * 2 + b"\n" * (most_in_a_bucket == 1)
        assert group(lake, content).record.counts.duplicates == duplicates


def test_reviews_of_twenty_characters_are_dropped_and_of_twenty_one_kept(lake: Lake) -> None:
    reviews = [Review(reviewer=f"{n}", text="é" * n) for n in (19, 20, 21, 22)]
    counts = group(lake, reviews).record.counts
    assert (counts.too_short, counts.reviews_kept) == (2, 2)


def test_every_review_read_is_counted_once(lake: Lake) -> None:
    reviews = [*reviews_of("B1", 7), *reviews_of("B2", 3), Review(text="short")]
    found = group(lake, [*reviews, reviews[0]], reviews[4:8], min_reviews=4)
    counts = found.record.counts
    of_dropped_products = 3
    assert counts.reviews_read == 16
    assert (counts.too_short, counts.duplicates, counts.reviews_kept) == (1, 5, 7)
    assert 1 + 5 + 7 + of_dropped_products == 16
    assert (counts.products_found, counts.products_too_small, counts.products) == (2, 1, 1)
    assert found.products["product_id"].to_list() == ["B1"]


def test_figures_of_a_product_are_those_of_its_reviews(lake: Lake) -> None:
    reviews = [
        Review(reviewer="A", rating=5, votes=2, day=17_010, style="Red"),
        Review(reviewer="B", rating=2, votes=1024, day=17_020, style="Blue"),
        Review(reviewer="C", rating=2, day=17_030, style="Blue"),
        Review(reviewer="D", rating=3, day=17_015, style="Red"),
    ]
    (row,) = group(lake, reviews).products.to_dicts()
    assert row["avg_rating"] == 3.0
    assert row["total_helpful_votes"] == 1026
    assert row["dominant_style"] == "Color: Blue"  # a tie: the first of the alphabet
    assert row["oldest_review_timestamp"] == 17_010 * 86_400
    assert row["newest_review_timestamp"] == 17_030 * 86_400


def test_a_product_with_very_much_text_keeps_it(lake: Lake) -> None:
    products = group(lake, [Review(text="much text " * 1_000_000)]).products
    assert len(products["all_reviews"].item()) > 9_000_000


def test_a_bucket_that_turns_out_too_large_is_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviews = [r for n in range(20) for r in reviews_of(f"B{n}", 6)]
    reviews += reviews[:7]
    whole = group(Lake.open(str(tmp_path / "whole")), reviews)
    monkeypatch.setattr(staging, "_BUCKET_BYTES", 1_500)
    monkeypatch.setattr(staging, "MOST_IN_A_BUCKET", 3_000)
    monkeypatch.setattr(staging, "_MOST_BUCKETS", 2)
    parts = group(Lake.open(str(tmp_path / "split")), reviews)
    assert len(parts.record.tables) > 2
    assert parts.record.counts == whole.record.counts
    assert parts.record.counts.duplicates == 7
    assert parts.products.equals(whole.products)


def test_reviews_that_are_all_too_short_leave_an_empty_table_and_the_reason(lake: Lake) -> None:
    found = group(lake, tsv([Review(text="short")]))
    assert found.products.is_empty()
    reason = why_no_product(found.record, load_settings())
    assert reason.startswith("no product is left of 1 reviews: 1 reviews have 20 characters")


def test_unchanged_dumps_are_not_read_again(lake: Lake) -> None:
    record = group(lake, reviews_of("B1"), min_reviews=5).record
    settings = load_settings(dumps=tuple(dump.name for dump in record.dumps))
    seen: list[Progress] = []
    assert is_current(lake, settings)
    assert group_reviews(lake, settings, seen.append) == (record, True)
    assert seen == []


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"other columns"])
def test_a_missing_or_damaged_table_is_named_with_the_remedy(
    lake: Lake, content: bytes | None
) -> None:
    found = group(lake, reviews_of("B1"))
    (key,) = found.record.tables
    if content == b"other columns":
        found.products.drop("review_count").write_parquet(buffer := io.BytesIO())
        content = buffer.getvalue()
    lake.delete(key) if content is None else lake.put(key, content)
    with pytest.raises(DumpError, match=r"remove grouped_reviews/current\.json"):
        scan_grouped(lake, found.record)


@pytest.mark.parametrize("field", ["tables", "superseded"])
@pytest.mark.parametrize("key", ["summarized_dataset/merged_summaries.csv", "../x", "/x"])
def test_a_forged_record_has_no_other_objects_removed(lake: Lake, key: str, field: str) -> None:
    before = group(lake, reviews_of("B1")).record
    lake.put("summarized_dataset/merged_summaries.csv", b"")
    forged = before.model_copy(update={field: (key,)})
    lake.put("grouped_reviews/current.json", forged.model_dump_json().encode())
    assert current_grouped_reviews(lake) is None
    group(lake, reviews_of("B2"))
    assert lake.head("summarized_dataset/merged_summaries.csv") is not None


@pytest.mark.parametrize(
    "change",
    [
        {"min_reviews": 2},
        {"min_review_chars": 3},
        {"columns": {"review_text": "reviewText"}},
        {"verified_only": True},
        {"reviews_since": "2000-01-01"},
    ],
)
def test_a_changed_setting_reads_again(lake: Lake, change: dict[str, object]) -> None:
    before = group(lake, reviews_of("B1")).record
    assert group(lake, reviews_of("B1"), **change).record.version != before.version


def test_a_new_result_replaces_the_old_one_only_when_it_is_complete(lake: Lake) -> None:
    before = group(lake, reviews_of("B1"))
    with pytest.raises(DumpError):
        group(lake, b"not a dump")
    assert current_grouped_reviews(lake) == before.record
    assert grouped(lake, before.record).products.equals(before.products)
    after = group(lake, reviews_of("B2")).record
    assert [item.key for item in lake.list("grouped_reviews/tables")] == list(after.tables)


def test_progress_ends_with_everything_read(lake: Lake, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}", FORMATS["2018"](reviews_of(f"B{n}"))) for n in range(3)]
    seen: list[Progress] = []
    group_reviews(lake, load_settings(dumps=tuple(paths)), seen.append)
    assert seen[-1].bytes_done == seen[-1].bytes_total == sum(Path(p).stat().st_size for p in paths)
    assert seen[-1].rows == 15


def test_a_lake_on_s3_holds_dumps_and_tables(s3_lake: Lake, lake: Lake) -> None:
    s3_lake.put("review_dumps/a.json", json_lines(amazon_2018, reviews_of("B1")))
    s3_lake.put("review_dumps/deep/b.parquet", FORMATS["Parquet"](reviews_of("B2")))
    s3_lake.put("review_dumps/_SUCCESS", b"")
    assert group(s3_lake).products["product_id"].to_list() == ["B1", "B2"]
    assert group(lake, s3_lake.uri_of("review_dumps/a.json")).record.counts.products == 1


def test_a_lake_may_lie_at_a_path_with_brackets(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake [1] *"))
    assert group(lake, reviews_of("B1")).products["review_count"].item() == 5


def test_a_grouped_csv_replaces_missing_dumps(lake: Lake) -> None:
    lake.put("grouping_dataset/product_grouped.csv", GROUPED_CSV.encode())
    found = group(lake)
    assert found.products.schema == GROUPED_SCHEMA
    assert found.products.select("product_id", "all_reviews", "review_count").rows() == [
        ("B1", "Good, really good", 9),
        ("B2", "Bad", 4),
        ("B4", "Fine", 5),
    ]
    assert [row.line for row in found.bad] == [4, 5, 6, 8]
    assert [row.reason[:10] for row in found.bad] == [
        "repeated p",
        "no product",
        *["review_cou"] * 2,
    ]
    lake.put("review_dumps/a.json", json_lines(amazon_2018, reviews_of("X1")))
    assert group(lake).products["product_id"].to_list() == ["X1"]


def test_grouped_and_raw_dumps_are_not_mixed(lake: Lake) -> None:
    with pytest.raises(DumpError, match=r"0 holds grouped reviews, the other dumps raw ones"):
        group(lake, GROUPED_CSV.encode(), reviews_of("X1"))


@pytest.fixture
def folder(lake: Lake) -> Path:
    """The lake's folder of dumps, with a grouped one."""
    assert lake.directory is not None
    folder = lake.directory / "review_dumps"
    write_dump(folder / "a.csv", texts(3))
    group_reviews(lake, load_settings())
    return folder


def test_everything_is_stale_before_the_first_grouping(lake: Lake) -> None:
    assert [name for name, _ in stale_dumps(lake, load_settings())] == ["all"]


def test_added_and_removed_dumps_are_stale(lake: Lake, folder: Path) -> None:
    assert stale_dumps(lake, load_settings()) == []
    (folder / "a.csv").rename(folder / "b.csv")
    assert stale_dumps(lake, load_settings()) == [
        ("review_dumps/b.csv", "not grouped yet"),
        ("review_dumps/a.csv", "was grouped and is gone"),
    ]


def test_a_dump_of_another_size_is_stale(lake: Lake, folder: Path) -> None:
    before = (folder / "a.csv").stat().st_size
    after = write_dump(folder / "a.csv", texts(4)).stat().st_size
    assert stale_dumps(lake, load_settings()) == [
        ("review_dumps/a.csv", f"{before:,} bytes were grouped, now it has {after:,}")
    ]


def test_a_dump_that_was_rewritten_with_the_same_size_is_stale(lake: Lake, folder: Path) -> None:
    path = folder / "a.csv"
    path.write_text(path.read_text().replace("good", "GOOD"))
    # Earlier than the grouping: a copy that keeps its time, or from a host with another clock.
    os.utime(path, (1e9, 1e9))
    assert stale_dumps(lake, load_settings()) == [
        ("review_dumps/a.csv", "changed 2001-09-09 01:46 UTC")
    ]


def test_other_settings_of_reading_make_all_dumps_stale(lake: Lake, folder: Path) -> None:
    ((name, change),) = stale_dumps(lake, load_settings(min_reviews=7))
    assert (name, "settings" in change) == ("all", True)
