from __future__ import annotations

import polars as pl
import pytest

from reviewsum_assets.checkpoints.merge import (
    LengthBin,
    MergedStatistics,
    ReadClass,
    ReviewClass,
    merge_checkpoints,
    merged_statistics,
)
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, grouped, plan_products, products

COUNTS = {"P000000": 25, "P000001": 12, "P000002": 7, "P000003": 2}


def figures(lake: Lake, words: int, poison: list[str]) -> MergedStatistics:
    """Figures of four products' summaries, the first of them one word longer than ``words``."""
    texts = products(4)
    plan = plan_products(lake, texts, counts=COUNTS).plan
    summaries = dict.fromkeys(texts, "word " * words)
    complete(lake, plan, poison=poison, texts={**summaries, "P000000": "word " * (words + 1)})
    merge_checkpoints(lake, plan)
    return merged_statistics(lake, grouped(texts, COUNTS))


def test_lengths_are_counted_in_bins_of_words(lake: Lake) -> None:
    found = figures(lake, words=4, poison=[])
    assert found.words == 17
    assert found.lengths == (LengthBin(0, 4, 3), LengthBin(5, 9, 1))


def test_bins_grow_with_the_longest_summary(lake: Lake) -> None:
    found = figures(lake, words=599, poison=[])
    assert [(one.first, one.last) for one in found.lengths] == [(500, 599), (600, 699)]


def test_reviews_are_covered_where_their_product_has_a_summary(lake: Lake) -> None:
    found = figures(lake, words=4, poison=["P000001"])
    assert found.reviews_covered == 34
    assert found.review_coverage == pytest.approx(34 / 46)
    assert found.classes == (
        ReviewClass(0, 4, products=1, reviews=2, products_covered=1, reviews_covered=2),
        ReviewClass(5, 9, products=1, reviews=7, products_covered=1, reviews_covered=7),
        ReviewClass(10, 19, products=1, reviews=12, products_covered=0, reviews_covered=0),
        ReviewClass(20, 49, products=1, reviews=25, products_covered=1, reviews_covered=25),
    )


def test_reads_are_counted_by_how_many_reviews_a_product_has(lake: Lake) -> None:
    counts = {"a": 3, "b": 2, "c": 7}
    # Of a grouped CSV it is not known, also when dumps of reviews give the same text later.
    first = plan_products(lake, {"c": "three reviews on one line"}, counts=counts, max_chars=9)
    complete(lake, first.plan)
    texts = {"a": "one more\ntwo\nthree", "b": "one\ntwo", "c": "three rev"}
    both = plan_products(lake, texts, counts=counts, max_chars=9, separable=True)
    assert (both.new, both.unchanged) == (2, 1)
    complete(lake, both.plan, numbers=both.added)
    merge_checkpoints(lake, both.plan)
    assert merged_statistics(lake, None).reads == (ReadClass(0, 4, reviews=5, read=3, cut=1),)


def test_without_grouped_reviews_no_coverage_is_told(lake: Lake) -> None:
    figures(lake, words=4, poison=[])
    assert merged_statistics(lake, None).review_coverage is None


def test_products_of_very_many_reviews_have_a_class_without_a_limit(lake: Lake) -> None:
    texts = {"P000000": "text"}
    plan = plan_products(lake, texts, counts={"P000000": 9_000}).plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    (found,) = merged_statistics(lake, grouped(texts, {"P000000": 9_000})).classes
    assert (found.fewest, found.most) == (5_000, None)


def test_the_grouped_table_may_count_in_another_type(lake: Lake) -> None:
    figures(lake, words=4, poison=[])
    counted = grouped(products(4), COUNTS).with_columns(pl.col("review_count").cast(pl.UInt32))
    assert merged_statistics(lake, counted).review_coverage == 1.0
