from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.grouping import (
    GroupedReviews,
    Progress,
    current_grouped_reviews,
    group_reviews,
    is_current,
    scan_grouped,
)
from reviewsum_assets.reviews.staging import GROUPED_SCHEMA
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.dumps import FORMATS, Review, amazon_2018, json_lines, reviews_of, write


def group(
    lake: Lake, folder: Path, *parts: list[Review], **options: object
) -> tuple[GroupedReviews, pl.DataFrame]:
    paths = tuple(
        write(folder / f"part-{number}", json_lines(amazon_2018, reviews))
        for number, reviews in enumerate(parts)
    )
    record, _ = group_reviews(lake, load_settings(dumps=paths, **options))
    return record, scan_grouped(lake, record).collect()


def test_the_grouped_table_has_the_contracts_columns(lake: Lake, tmp_path: Path) -> None:
    _, table = group(lake, tmp_path, reviews_of("B1"))
    assert table.schema == GROUPED_SCHEMA


def test_the_most_helpful_reviews_come_first_then_the_most_recent(
    lake: Lake, tmp_path: Path
) -> None:
    reviews = [
        Review(reviewer="A", text="third: an older one without votes", day=1),
        Review(reviewer="B", text="first: the one with most of votes", votes=9, day=2),
        Review(reviewer="C", text="second: the newest one without votes", day=3),
    ]
    _, table = group(lake, tmp_path, reviews, min_reviews=1)
    firsts = [text.split(":")[0] for text in table["all_reviews"].item().split("\n")]
    assert firsts == ["first", "second", "third"]


def test_the_table_does_not_depend_on_how_reviews_are_spread_over_dumps(tmp_path: Path) -> None:
    reviews = [r for n in range(9) for r in reviews_of(f"B{n}", 7, votes=n % 2, style="Red")]
    tables = []
    for seed in range(4):
        random.Random(seed).shuffle(reviews)
        cut = random.Random(seed).randrange(1, len(reviews) - 1)
        lake = Lake.open(str(tmp_path / f"lake-{seed}"))
        _, table = group(lake, tmp_path / f"{seed}", reviews[:cut], reviews[cut:])
        tables.append(table.sort("product_id"))
    assert all(table.equals(tables[0]) for table in tables)


def test_duplicates_count_once_across_dumps_too(lake: Lake, tmp_path: Path) -> None:
    reviews = reviews_of("B1", 6)
    record, table = group(lake, tmp_path, [*reviews, reviews[0]], reviews[2:])
    assert (record.counts.duplicates, table["review_count"].item()) == (5, 6)


def test_the_hour_of_a_review_which_some_formats_lack_changes_nothing(tmp_path: Path) -> None:
    reviews = [
        replace(review, second=3_600 * ((n * 7) % 24))
        for n, review in enumerate(reviews_of("B1", 20))
    ]
    tables = []
    for formats in (["2018"], ["2023"], ["TSV"], ["2018", "TSV", "2023"]):
        lake = Lake.open(str(tmp_path / "lake" / "-".join(formats)))
        paths = tuple(write(tmp_path / name, FORMATS[name](reviews)) for name in formats)
        group_reviews(lake, load_settings(dumps=paths))
        record = current_grouped_reviews(lake)
        assert record is not None
        table = scan_grouped(lake, record).collect()
        tables.append(table.select("all_reviews", "review_count").rows())
    assert tables == [tables[0]] * 4


@pytest.mark.parametrize("change", [{"reviewer": "Z"}, {"day": 9}, {"text": "x" * 30}])
def test_a_review_that_differs_is_no_duplicate(
    lake: Lake, tmp_path: Path, change: dict[str, object]
) -> None:
    other = Review(**change)  # type: ignore[arg-type]  # fields of Review, by name
    record, _ = group(lake, tmp_path, [Review(), other], min_reviews=1)
    assert record.counts.duplicates == 0


def test_reviews_without_reviewer_and_time_are_compared_by_text(lake: Lake, tmp_path: Path) -> None:
    rows = b'{"asin": "B1", "reviewText": "the very same text twice"}\n' * 2
    path = write(tmp_path / "dump", rows)
    record, _ = group_reviews(lake, load_settings(dumps=(path,), min_reviews=1))
    assert record.counts.duplicates == 1


def test_reviews_of_twenty_characters_are_dropped_and_of_twenty_one_kept(
    lake: Lake, tmp_path: Path
) -> None:
    reviews = [Review(reviewer=f"{n}", text="é" * n) for n in (19, 20, 21, 22)]
    record, table = group(lake, tmp_path, reviews, min_reviews=1)
    assert (record.counts.too_short, table["review_count"].item()) == (2, 2)


def test_products_with_too_few_reviews_are_dropped_and_counted(lake: Lake, tmp_path: Path) -> None:
    record, table = group(lake, tmp_path, reviews_of("B1", 5) + reviews_of("B2", 4))
    assert table["product_id"].to_list() == ["B1"]
    assert (record.counts.products_found, record.counts.products_too_small) == (2, 1)


def test_every_review_read_is_accounted_for(lake: Lake, tmp_path: Path) -> None:
    reviews = [
        *reviews_of("B1", 7),
        *reviews_of("B2", 3),
        Review(text="short"),
        *reviews_of("B1", 2),
    ]
    counts = group(lake, tmp_path, reviews)[0].counts
    of_dropped_products = 3
    assert counts.reviews_read == 13
    assert counts.reviews_read == (
        counts.too_short + counts.duplicates + of_dropped_products + counts.reviews_kept
    )


def test_numbers_of_a_product_are_those_of_its_reviews(lake: Lake, tmp_path: Path) -> None:
    reviews = [
        Review(reviewer="A", rating=5, votes=2, day=10, style="Red"),
        Review(reviewer="B", rating=2, votes=1024, day=20, style="Blue"),
        Review(reviewer="C", rating=2, day=30, style="Blue"),
        Review(reviewer="D", rating=3, day=15, style="Red"),
    ]
    (row,) = group(lake, tmp_path, reviews, min_reviews=1)[1].to_dicts()
    assert row["avg_rating"] == 3.0
    assert row["total_helpful_votes"] == 1026
    assert row["dominant_style"] == "Color: Blue"  # a tie: the first of the alphabet
    assert row["oldest_review_timestamp"] == 10 * 86_400
    assert row["newest_review_timestamp"] == 30 * 86_400


def test_a_product_with_very_much_text_keeps_it(lake: Lake, tmp_path: Path) -> None:
    reviews = [*reviews_of("B1", 4), Review("B1", "Z", "much text " * 1_000_000)]
    _, table = group(lake, tmp_path, reviews)
    assert len(table["all_reviews"].item()) > 9_000_000


def test_unchanged_dumps_are_not_read_again(lake: Lake, tmp_path: Path) -> None:
    record, _ = group(lake, tmp_path, reviews_of("B1"))
    settings = load_settings(dumps=(str(tmp_path / "part-0"),))
    seen: list[Progress] = []
    assert is_current(lake, settings)
    assert group_reviews(lake, settings, seen.append) == (record, True)
    assert seen == []


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"other columns"])
def test_a_table_that_is_gone_or_another_is_named_with_what_to_do(
    lake: Lake, tmp_path: Path, content: bytes | None
) -> None:
    record, table = group(lake, tmp_path, reviews_of("B1"))
    (key,) = record.tables
    if content == b"other columns":
        table.drop("review_count").write_parquet(buffer := io.BytesIO())
        content = buffer.getvalue()
    lake.delete(key) if content is None else lake.put(key, content)
    with pytest.raises(DumpError, match=r"remove grouped_reviews/current\.json, and dumps are"):
        scan_grouped(lake, record)


@pytest.mark.parametrize("field", ["tables", "superseded"])
@pytest.mark.parametrize("key", ["summarized_dataset/merged_summaries.csv", "../x", "/x"])
def test_a_record_that_names_other_objects_as_tables_has_none_removed(
    lake: Lake, tmp_path: Path, key: str, field: str
) -> None:
    before, _ = group(lake, tmp_path, reviews_of("B1"))
    lake.put("summarized_dataset/merged_summaries.csv", b"")
    forged = before.model_copy(update={field: (key,)})
    lake.put("grouped_reviews/current.json", forged.model_dump_json().encode())
    assert current_grouped_reviews(lake) is None
    group(lake, tmp_path, reviews_of("B2"))
    assert lake.head("summarized_dataset/merged_summaries.csv") is not None


@pytest.mark.parametrize("change", [{"min_reviews": 1}, {"min_review_chars": 3}])
def test_a_changed_setting_reads_again(
    lake: Lake, tmp_path: Path, change: dict[str, object]
) -> None:
    before, _ = group(lake, tmp_path, reviews_of("B1"))
    after, _ = group(lake, tmp_path, reviews_of("B1"), **change)
    assert after.version != before.version


def test_a_new_result_replaces_the_old_one_only_when_it_is_complete(
    lake: Lake, tmp_path: Path
) -> None:
    before, table = group(lake, tmp_path, reviews_of("B1"))
    (tmp_path / "part-0").write_bytes(b"not a dump")
    with pytest.raises(DumpError):
        group_reviews(lake, load_settings(dumps=(str(tmp_path / "part-0"),)))
    assert current_grouped_reviews(lake) == before
    assert scan_grouped(lake, before).collect().equals(table)
    after, _ = group(lake, tmp_path, reviews_of("B2"))
    assert [item.key for item in lake.list("grouped_reviews/tables")] == list(after.tables)


def test_progress_ends_with_everything_read(lake: Lake, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}", FORMATS["2018"](reviews_of(f"B{n}"))) for n in range(3)]
    seen: list[Progress] = []
    group_reviews(lake, load_settings(dumps=tuple(paths)), seen.append)
    assert seen[-1].bytes_done == seen[-1].bytes_total == sum(Path(p).stat().st_size for p in paths)
    assert seen[-1].rows == 15


def test_a_lake_on_s3_holds_dumps_and_tables_alike(s3_lake: Lake) -> None:
    s3_lake.put("review_dumps/a.json", json_lines(amazon_2018, reviews_of("B1")))
    s3_lake.put("review_dumps/deep/b.parquet", FORMATS["Parquet"](reviews_of("B2")))
    s3_lake.put("review_dumps/_SUCCESS", b"")
    record, _ = group_reviews(s3_lake, load_settings())
    assert scan_grouped(s3_lake, record).collect()["product_id"].sort().to_list() == ["B1", "B2"]


def test_a_dump_on_s3_can_be_named(s3_lake: Lake, lake: Lake) -> None:
    s3_lake.put("elsewhere/a.json", json_lines(amazon_2018, reviews_of("B1")))
    settings = load_settings(dumps=(s3_lake.uri_of("elsewhere/a.json"),))
    assert group_reviews(lake, settings)[0].counts.products == 1


def test_no_dump_at_all_says_where_to_put_one(lake: Lake) -> None:
    with pytest.raises(DumpError, match=r"put dumps under .*review_dumps/"):
        group_reviews(lake, load_settings())


def test_a_dump_that_does_not_exist_is_named(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(DumpError, match=r"nowhere\.json does not exist"):
        group_reviews(lake, load_settings(dumps=(str(tmp_path / "nowhere.json"),)))


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


def test_a_grouped_csv_stands_in_for_dumps(lake: Lake) -> None:
    lake.put("grouping_dataset/product_grouped.csv", GROUPED_CSV.encode())
    record, _ = group_reviews(lake, load_settings())
    table = scan_grouped(lake, record).collect()
    assert table.schema == GROUPED_SCHEMA
    assert table.select("product_id", "all_reviews", "review_count").rows() == [
        ("B1", "Good, really good", 9),
        ("B2", "Bad", 4),
        ("B4", "Fine", 5),
    ]
    lines = (lake.get(record.quarantine_key or "") or b"").decode()
    assert '"line":4' in lines and "was there before" in lines
    assert '"line":5' in lines and "no product id" in lines
    assert '"line":6' in lines and "review_count is not a whole number" in lines
    assert '"line":8' in lines


def test_dumps_win_over_the_grouped_csv(lake: Lake) -> None:
    lake.put("grouping_dataset/product_grouped.csv", GROUPED_CSV.encode())
    lake.put("review_dumps/a.json", json_lines(amazon_2018, reviews_of("X1")))
    record, _ = group_reviews(lake, load_settings())
    assert scan_grouped(lake, record).collect()["product_id"].to_list() == ["X1"]


def test_grouped_and_raw_dumps_are_not_mixed(lake: Lake) -> None:
    lake.put("review_dumps/a.csv", GROUPED_CSV.encode())
    lake.put("review_dumps/b.json", json_lines(amazon_2018, reviews_of("X1")))
    with pytest.raises(DumpError, match=r"a\.csv holds grouped reviews, the other dumps raw ones"):
        group_reviews(lake, load_settings())
