from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reviewsum_assets.errors import CheckpointError
from reviewsum_assets.report import products as module
from reviewsum_assets.report.products import Details, Tables
from reviewsum_assets.reviews.facts import FACTS_SCHEMA
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.report.support import QUOTE, Product, put_table, put_tables, row


def read(lake: Lake, folder: Path, *products: Product) -> list[Details]:
    """The products of the tables, in their order; without products, of tables that are there."""
    if products:
        put_tables(lake, products)
    folder.mkdir()
    tables = Tables.copied(lake, folder)
    return [one for some in tables.slices(tables.ids()) for one in some]


def sentences(found: Details) -> list[tuple[str, str, Any]]:
    """Title, sentence and verdict, ``...`` where a sentence has no evidence."""
    return [
        (text["title"], s["text"], s["evidence"]["supported"] if "evidence" in s else ...)
        for text in found.details["texts"]
        for s in text["sentences"]
    ]


def verdicts(
    lake: Lake, folder: Path, summary: str | None, *evidence: Mapping[str, Any]
) -> list[Any]:
    (found,) = read(lake, folder, Product("B1", summary, evidence))
    return [(text, supported) for _, text, supported in sentences(found)]


def test_each_sentence_has_the_verdict_and_quotes_of_its_evidence(
    lake: Lake, tmp_path: Path
) -> None:
    evidence = (row("It lasts."), row("It is red.", supported=False), row("Buy it.", None))
    (found,) = read(
        lake, tmp_path / "copy", Product("B1", "It lasts. It is red. Buy it.", evidence)
    )
    assert sentences(found) == [
        ("Summary", "It lasts.", True),
        ("Summary", "It is red.", False),
        ("Summary", "Buy it.", None),
    ]
    assert (found.row["checked"], found.row["unsupported"]) == (2, 1)
    shown = found.details["texts"][0]["sentences"][0]["evidence"]
    counts = {"reviews": 60, "support": 12, "against": 3, "score": 0.5, "supported": True}
    assert shown == {**counts, "quotes": [{**QUOTE, "day": "2018-09-13"}]}
    assert not found.lacks_evidence


def test_the_facts_are_those_of_the_product(lake: Lake, tmp_path: Path) -> None:
    others = Product("B2", "Good.", facts={"mean_stars": 1.0, "stars_5": None})
    first, second = read(lake, tmp_path / "copy", Product("B1", "Good.", reviews=70), others)
    assert first.details["facts"] == {
        "stars": [4, 2, 6, 18, 30],
        "mean": 4.13,
        "critical": 0.1,
        "verified": 0.9,
        "oldest": "2014-02-16",
        "newest": "2018-09-13",
        "highlights": [{"sentence": "The sound is rich.", "review": 7, "stars": 5}],
    }
    assert (first.row["reviews"], first.row["stars"]) == (70, 4.13)
    assert first.details["read"] == {"whole": 20, "cut": 1}
    assert second.row["stars"] == 1


def test_stars_that_are_not_known_are_not_a_histogram_of_zeros(lake: Lake, tmp_path: Path) -> None:
    unknown = {f"stars_{stars}": None for stars in range(1, 6)} | {"mean_stars": None}
    (found,) = read(lake, tmp_path / "copy", Product("B1", "Good.", facts=unknown))
    assert (found.details["facts"]["stars"], found.row["stars"]) == (None, None)


@pytest.mark.parametrize(
    ("summary", "evidence", "shown"),
    [
        # Another summary, of which one sentence is the same.
        ("Good. It is blue.", ["Good.", "It is red."], [("Good.", True), "It is blue."]),
        ("It is not red.", ["red.", "It is"], ["It is not red."]),
        ("Not good. Good.", ["Good."], ["Not good.", ("Good.", True)]),
        ("One. Two. One.", ["One.", "One."], [("One.", True), "Two.", ("One.", True)]),
        ("One. Two.", ["Two.", "One."], ["One.", ("Two.", True)]),
        ("Without an end", ["Without an end"], [("Without an end", True)]),
        ("電池は長い。", ["電池は長い。"], [("電池は長い。", True)]),
        ("It lasts.", ["", " "], ["It lasts."]),
        ("", ["It lasts."], []),
        (None, [], []),
    ],
)
def test_evidence_of_a_sentence_that_the_summary_does_not_have_is_not_shown(
    lake: Lake, tmp_path: Path, summary: str | None, evidence: Sequence[str], shown: Sequence[Any]
) -> None:
    found = verdicts(lake, tmp_path / "copy", summary, *map(row, evidence))
    expected = [one if isinstance(one, tuple) else (one, ...) for one in shown]
    assert found == expected


@pytest.mark.parametrize(
    ("summary", "evidence", "lacks"),
    [
        ("It lasts.", [row("It lasts.")], False),
        ("It lasts.", [row("It broke.")], True),
        ("It lasts. It is red.", [row("It lasts."), row("It broke.")], True),
        ("It lasts.", [], True),
        ("", [], False),
    ],
)
def test_a_summary_that_is_newer_than_its_evidence_is_noticed(
    lake: Lake, tmp_path: Path, summary: str, evidence: list[Any], lacks: bool
) -> None:
    (found,) = read(lake, tmp_path / "copy", Product("B1", summary, evidence))
    assert found.lacks_evidence is lacks


def test_facts_of_other_reviews_are_noticed(lake: Lake, tmp_path: Path) -> None:
    products = [
        Product("B1", "Good.", reviews=9),
        Product("B2", "Good.", reviews=8, facts={"review_count": 7}),
        Product("B3", "Good.", reviews=7, facts=None),
    ]
    found = read(lake, tmp_path / "copy", *products)
    assert [one.lacks_facts for one in found] == [False, True, True]


def test_a_summary_of_two_sides_is_shown_as_both_with_the_evidence_of_each(
    lake: Lake, tmp_path: Path
) -> None:
    evidence = [row("Same.", side="disliked", supported=False), row("Same.", side="liked")]
    summary = "Liked: Good. Same. Disliked: Bad. Same."
    sides = {"liked": "Good. Same.", "disliked": "Bad. Same."}
    both = Product("B1", summary, evidence, 9, sides)
    one = Product("B2", "Liked: Good.", [row("Good.", side="liked")], 8, {"liked": "Good."})
    none = Product("B3", "Good.", [row("Good."), row("Good.", side="liked")], 7, {"liked": None})
    found = read(lake, tmp_path / "copy", both, one, none)
    assert sentences(found[0]) == [
        ("Liked", "Good.", ...),
        ("Liked", "Same.", True),
        ("Disliked", "Bad.", ...),
        ("Disliked", "Same.", False),
    ]
    assert found[0].row["summaries"] == summary
    assert sentences(found[1]) == [("Liked", "Good.", True)]
    assert sentences(found[2]) == [("Summary", "Good.", True)]
    assert [one.lacks_evidence for one in found] == [True, False, True]


def test_products_with_the_most_reviews_come_first_whatever_is_in_memory(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = [
        Product(f"B{n}", f"Text {n}.", [row(f"Text {n}.")] * (n % 2), reviews=n % 4, facts=None)
        for n in range(9)
    ]
    whole = read(lake, tmp_path / "whole", *products)
    assert "".join(one.row["ids"] for one in whole) == "B3B7B2B6B1B5B0B4B8"
    monkeypatch.setattr(module, "_PRODUCTS_AT_A_TIME", 2)
    monkeypatch.setattr(module, "_ROWS_AT_A_TIME", 3)
    assert read(lake, tmp_path / "parts") == whole


def test_numbers_and_days_that_json_or_python_lack_are_unknown_or_text(
    lake: Lake, tmp_path: Path
) -> None:
    quote = {**QUOTE, "stars": float("nan"), "votes": None, "day": None}
    evidence = [row("Good.", score=float("nan"), support=None, quotes=[quote])]
    put_tables(lake, [Product("B1", "Good.", evidence, facts={"mean_stars": float("inf")})])
    facts = pl.scan_parquet(lake.uri_of(places.PRODUCT_FACTS)).collect()
    far = pl.Series([5_000_000], dtype=pl.Int32).cast(pl.Date)
    put_table(lake, places.PRODUCT_FACTS, facts.with_columns(newest_day=far))
    (found,) = read(lake, tmp_path / "copy")
    shown = found.details["texts"][0]["sentences"][0]["evidence"]
    assert (shown["score"], shown["support"]) == (None, 0)
    assert shown["quotes"] == [{**QUOTE, "stars": None, "votes": None, "day": None}]
    assert (found.row["stars"], found.details["facts"]["newest"]) == (None, "+15659-07-15")
    assert date.max.year < 15_659


def test_a_missing_merged_table_is_an_error_that_says_what_to_do(
    lake: Lake, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"is missing: use .*materialize merged_summ"):
        read(lake, tmp_path / "copy")


@pytest.mark.parametrize(
    "key", [places.MERGED_PARQUET, places.PRODUCT_FACTS, places.SUMMARY_EVIDENCE]
)
@pytest.mark.parametrize("content", [b"no table", None])
def test_a_table_that_cannot_be_read_is_named(
    lake: Lake, tmp_path: Path, key: str, content: bytes | None
) -> None:
    put_tables(lake, [Product("B1", "Good.")])
    if content is None:
        put_table(lake, key, pl.DataFrame({"product_id": ["B1"], "other": [1]}))
    else:
        lake.put(key, content)
    with pytest.raises(CheckpointError, match=f"{key} cannot be read .* or materialize"):
        read(lake, tmp_path / "copy")


def test_a_product_without_facts_and_tables_with_more_columns_are_read(
    lake: Lake, tmp_path: Path
) -> None:
    put_tables(lake, [Product("B1", "Good.")])
    empty = pl.DataFrame(schema={**FACTS_SCHEMA, "more": pl.String()})
    put_table(lake, places.PRODUCT_FACTS, empty)
    (found,) = read(lake, tmp_path / "copy")
    assert found.details["facts"] is None
