from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl
import pytest

from reviewsum_assets.errors import PlanError
from reviewsum_assets.reviews import evidence_table
from reviewsum_assets.reviews.derived_table import TableRecord
from reviewsum_assets.reviews.evidence_table import (
    EVIDENCE_SCHEMA,
    SUMMARY_EVIDENCE,
    unsupported_sentences,
    write_evidence,
)
from reviewsum_assets.reviews.facts import write_facts
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import as_parquet
from tests.reviews.support import group
from tests.support.dumps import Review

REVIEWS = [
    Review("B1", "A1", "The battery lasts all day long.", rating=5, day=17_000, votes=3),
    Review("B1", "A2", "Its battery lasts all day.", rating=4, day=17_365),
    Review("B1", "A3", "Sadly it broke after one day.", rating=2, day=17_366, votes=9),
    Review("B2", "A1", "The strap is too short for me.", rating=3, day=17_800),
]
SUMMARIES = {"B1": "The battery lasts all day. It is waterproof.", "B2": "The strap is short."}


def written(
    lake: Lake, *dumps: Any, summaries: dict[str, str] = SUMMARIES, **columns: list[str | None]
) -> tuple[TableRecord, pl.DataFrame]:
    """Group dumps, write facts and a merged table, then the evidence; its record and the table."""
    merged = as_parquet(
        pl.DataFrame(
            {
                "product_id": list(summaries),
                "abstracted_summary": list(summaries.values()),
                **columns,
            }
        )
    )
    grouped = group(lake, *dumps).record
    write_facts(lake, grouped)
    lake.put(places.MERGED_PARQUET, merged)
    record, _ = write_evidence(lake, grouped, str(hash(merged)))
    return record, SUMMARY_EVIDENCE.scan(lake).collect().sort("product_id", "place")


def test_each_sentence_has_its_figures_and_quotes(lake: Lake) -> None:
    record, found = written(lake, REVIEWS)
    assert found.schema == EVIDENCE_SCHEMA
    assert (record.rows, record.products, record.computed) == (3, 2, 2)
    first, second, third = found.rows(named=True)
    assert (first["product_id"], first["place"], first["side"]) == ("B1", 1, None)
    assert (first["reviews"], first["support"], first["supported"]) == (3, 2, True)
    quote = first["quotes"][0]
    assert quote["quote"] == "The battery lasts all day long."
    assert (quote["stars"], quote["day"], quote["votes"]) == (5.0, date(2016, 7, 18), 3)
    assert (second["sentence"], second["supported"], second["quotes"]) == (
        "It is waterproof.",
        False,
        [],
    )
    assert (third["product_id"], third["support"]) == ("B2", 1)
    unsupported, claiming = unsupported_sentences(lake)
    assert (unsupported.rows(), claiming) == ([("B1", "It is waterproof.")], 3)


def test_a_quote_names_the_line_of_its_review(lake: Lake) -> None:
    _, found = written(lake, REVIEWS)
    lines = group(lake, REVIEWS).products.filter(product_id="B1")["all_reviews"][0].split("\n")
    for quote in found.filter(product_id="B1")["quotes"][0].to_list():
        assert quote["quote"] in lines[quote["review"]]


def test_only_products_whose_summary_or_reviews_changed_are_computed_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_table, "_PRODUCTS_AT_A_TIME", 1)
    _, before = written(lake, REVIEWS)
    again, same = written(lake, REVIEWS)
    assert (again.computed, same.equals(before)) == (0, True)
    summary, _ = written(lake, REVIEWS, summaries={**SUMMARIES, "B2": "It fits."})
    assert summary.computed == 1
    votes, found = written(lake, [replace(REVIEWS[0], votes=99), *REVIEWS[1:]])
    assert votes.computed == 2, "B1 has other votes, B2 its first summary again"
    assert found["quotes"][0][0]["votes"] == 99
    gone, left = written(lake, REVIEWS[:3], summaries={"B1": SUMMARIES["B1"]})
    assert (gone.computed, left["product_id"].unique().to_list()) == (1, ["B1"])


def test_sides_have_their_own_sentences(lake: Lake) -> None:
    _, found = written(
        lake,
        REVIEWS,
        liked=["The battery lasts all day.", None],
        disliked=["It broke after one day.", None],
    )
    assert found.select("place", "side", "support").rows() == [
        (1, "liked", 2),
        (2, "disliked", 1),
        (1, None, 1),
    ]


def test_sentences_support_sentences_where_reviews_are_not_separate(lake: Lake) -> None:
    content = "product_id,all_reviews,review_count\nB1,It lasts long. It lasts very long. Bad.,7\n"
    _, found = written(lake, content.encode(), summaries={"B1": "It lasts long."})
    (row,) = found.rows(named=True)
    assert (row["reviews"], row["support"], row["quotes"][0]["review"]) == (3, 2, 0)
    assert row["quotes"][0]["stars"] is None


def test_evidence_needs_the_facts_of_the_same_reviews(lake: Lake) -> None:
    written(lake, REVIEWS)
    grouped = group(lake, REVIEWS[:2]).record
    with pytest.raises(PlanError, match="materialize product_facts"):
        write_evidence(lake, grouped, "other")


def test_damaged_evidence_is_found_and_made_again(lake: Lake) -> None:
    written(lake, REVIEWS)
    assert SUMMARY_EVIDENCE.damage(lake) == []
    lake.put(places.SUMMARY_EVIDENCE, b"damaged")
    assert places.SUMMARY_EVIDENCE in SUMMARY_EVIDENCE.damage(lake)[0]
    with pytest.raises(PlanError, match="no evidence"):
        unsupported_sentences(lake)
    assert written(lake, REVIEWS)[0].computed == 2
    assert SUMMARY_EVIDENCE.damage(lake) == []
