from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews import facts
from reviewsum_assets.reviews.derived_table import TableRecord
from reviewsum_assets.reviews.facts import (
    FACTS_SCHEMA,
    PRODUCT_FACTS,
    write_facts,
)
from reviewsum_assets.reviews.grouped import current_grouped_reviews
from reviewsum_assets.reviews.highlights import Highlight, highlights_of_product
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.reviews.support import group
from tests.support.dumps import Review, amazon_2018, json_lines, reviews_of

REVIEWS = [
    Review("B1", "A1", "The battery lasts all day long.", rating=5, day=17_000),
    Review("B1", "A2", "Its battery lasts very long indeed.", rating=4, day=17_365),
    Review("B1", "A3", "Sadly it broke after one day.", rating=2, day=17_366, votes=9),
    Review("B1", "A4", "It is neither good nor bad.", rating=3, day=17_800),
]


def written(lake: Lake, *dumps: Any, **settings: Any) -> tuple[TableRecord, pl.DataFrame]:
    """Group dumps and write facts; the record and the table."""
    record, _ = write_facts(lake, group(lake, *dumps, **settings).record)
    return record, table(lake)


def table(lake: Lake) -> pl.DataFrame:
    return lake.scan_parquet(places.PRODUCT_FACTS).collect().sort("product_id")


def test_facts_of_a_product_count_all_of_its_reviews(lake: Lake) -> None:
    record, found = written(lake, REVIEWS)
    assert (record.rows, record.computed) == (1, 1)
    assert found.schema == FACTS_SCHEMA
    (row,) = found.rows(named=True)
    assert [row[f"stars_{stars}"] for stars in range(1, 6)] == [0, 1, 1, 1, 1]
    assert (row["review_count"], row["mean_stars"]) == (4, 3.5)
    shares = [row[f"{side}_share"] for side in ("critical", "mixed", "favourable", "verified")]
    assert shares == [0.25, 0.25, 0.5, 1.0]
    assert (row["oldest_day"], row["newest_day"]) == (date(2016, 7, 18), date(2018, 9, 26))
    assert row["reviews_per_year"] == [
        {"year": 2016, "reviews": 1},
        {"year": 2017, "reviews": 2},
        {"year": 2018, "reviews": 1},
    ]


def test_highlights_name_the_line_and_the_stars_of_their_review(lake: Lake) -> None:
    found = written(lake, REVIEWS)[1]
    grouped = group(lake, REVIEWS).products
    lines, stars = grouped["all_reviews"][0].split("\n"), grouped["review_ratings"][0]
    highlights = found["highlights"][0].to_list()
    assert highlights
    for highlight in highlights:
        assert highlight["sentence"] in lines[highlight["review"]]
        assert highlight["stars"] == stars[highlight["review"]]
    sentences = " ".join(highlight["sentence"] for highlight in highlights)
    assert found["highlights_text"][0] == sentences


def test_what_is_unknown_is_null(lake: Lake) -> None:
    rows = "".join(f"B1,A review of this product without more {n}\n" for n in range(3))
    (row,) = written(lake, f"product_id,review_text\n{rows}".encode())[1].rows(named=True)
    assert row["review_count"] == 3
    assert [row[f"stars_{stars}"] for stars in range(1, 6)] == [0] * 5
    unknown = ("mean_stars", "critical_share", "verified_share", "oldest_day", "newest_day")
    assert {row[name] for name in unknown} == {None}
    assert row["reviews_per_year"] == []


def test_half_stars_count_as_the_whole_ones_below(lake: Lake) -> None:
    rows = "".join(
        f"B1,A review that gives {stars} stars,{stars}\n" for stars in (0, 2.5, 3.5, 4.5, 10)
    )
    (row,) = written(lake, f"product_id,review_text,rating\n{rows}".encode())[1].rows(named=True)
    assert [row[f"stars_{stars}"] for stars in range(1, 6)] == [1, 1, 1, 1, 1]
    assert (row["critical_share"], row["mixed_share"], row["favourable_share"]) == (0.4, 0.2, 0.4)


def test_a_grouped_csv_has_facts_of_its_columns_and_highlights(lake: Lake) -> None:
    content = (
        "product_id,all_reviews,review_count,avg_rating,newest_review_timestamp\n"
        "B1,The battery lasts long. I like trains. A battery that lasts very long.,7,4.5,86400\n"
        "B2,,0,,\n"
    )
    first, second = written(lake, content.encode())[1].rows(named=True)
    assert (first["review_count"], first["mean_stars"], first["stars_5"]) == (7, 4.5, None)
    assert (first["newest_day"], first["critical_share"]) == (date(1970, 1, 2), None)
    assert first["highlights"][0]["review"] == 0
    assert "battery" in first["highlights_text"]
    assert (second["highlights"], second["highlights_text"]) == ([], "")


def test_only_products_whose_reviews_changed_are_computed_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = [review for n in range(5) for review in reviews_of(f"B{n}")]
    first, before = written(lake, products)
    assert first.computed == 5
    read: list[str] = []

    def counted(text: str, stars: Sequence[float | None] | None) -> list[Highlight]:
        read.append(text)
        return highlights_of_product(text, stars)

    monkeypatch.setattr(facts, "highlights_of_product", counted)
    changed = [replace(products[0], rating=1), *products[1:], *reviews_of("B9")]
    second, after = written(lake, changed)
    assert (second.rows, second.computed, len(read)) == (6, 2, 2)
    unchanged = ["B1", "B2", "B3", "B4"]
    is_unchanged = pl.col("product_id").is_in(unchanged)
    assert after.filter(is_unchanged).equals(before.filter(is_unchanged))
    assert after.filter(product_id="B0")["stars_1"].item() == 1
    third, gone = written(lake, products[5:])
    assert (third.rows, third.computed, gone["product_id"].to_list()) == (4, 0, unchanged)


def test_facts_that_are_there_are_not_written_again(lake: Lake) -> None:
    record = group(lake, REVIEWS).record
    first = write_facts(lake, record)
    before = lake.head(places.PRODUCT_FACTS)
    assert write_facts(lake, record) == (first[0], True)
    assert lake.head(places.PRODUCT_FACTS) == before


def test_the_table_does_not_depend_on_how_many_products_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = [review for n in range(7) for review in reviews_of(f"B{n}", 2 + n % 3)]
    tables, slices = [], []
    compute = facts._computed
    for size in (2, 1000):
        largest: list[int] = []
        monkeypatch.setattr(facts, "_PRODUCTS_AT_A_TIME", size)
        monkeypatch.setattr(
            facts,
            "_computed",
            lambda some, seen=largest: (seen.append(some.height), compute(some))[1],
        )
        lake = Lake.open(str(tmp_path / f"{size}"))
        tables.append(written(lake, products)[1])
        slices.append(largest)
    assert tables[0].equals(tables[1])
    assert (max(slices[0]), slices[1]) == (2, [7])


def test_no_product_has_no_facts(lake: Lake) -> None:
    record, found = written(lake, REVIEWS, min_reviews=99)
    assert (record.rows, found.height, found.schema) == (0, 0, FACTS_SCHEMA)


@pytest.mark.parametrize("key", [places.PRODUCT_FACTS, places.PRODUCT_FACTS_RECORD])
@pytest.mark.parametrize("how", ["gone", "cut off", "changed"])
def test_damaged_facts_are_made_again(lake: Lake, key: str, how: str) -> None:
    reviews = group(lake, REVIEWS).record
    record, _ = write_facts(lake, reviews)
    found = table(lake)
    assert PRODUCT_FACTS.damage(lake) == []
    content = bytearray(lake.get(key) or b"")
    content[len(content) // 2] ^= 1
    if how == "gone":
        lake.delete(key)
    else:
        lake.put(key, bytes(content[: len(content) // 2] if how == "cut off" else content))
    assert key in PRODUCT_FACTS.damage(lake)[0]
    assert PRODUCT_FACTS.undamaged(lake) is None
    assert write_facts(lake, reviews) == (record, False)
    assert table(lake).equals(found)
    assert PRODUCT_FACTS.damage(lake) == []


def test_facts_on_s3_are_the_same(lake: Lake, s3_lake: Lake) -> None:
    s3_lake.put("review_dumps/a.json", json_lines(amazon_2018, REVIEWS))
    assert written(lake, REVIEWS)[1].equals(written(s3_lake)[1])
    record = current_grouped_reviews(s3_lake)
    assert record is not None
    assert write_facts(s3_lake, record)[1]
    s3_lake.put(places.PRODUCT_FACTS, b"another one")
    assert PRODUCT_FACTS.undamaged(s3_lake) is None


def test_damaged_grouped_reviews_are_an_error_and_no_facts_are_written(lake: Lake) -> None:
    record = group(lake, REVIEWS).record
    lake.put(record.tables[0], b"damaged")
    with pytest.raises(DumpError, match="cannot be read"):
        write_facts(lake, record)
    assert lake.list(places.SUMMARIZED_DATASET) == []
