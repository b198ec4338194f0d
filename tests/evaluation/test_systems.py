from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation.systems import (
    RANDOM,
    baselines,
    best_review,
    central_review,
    lead,
    read_references,
    reviews_in_window,
)
from reviewsum_assets.settings import load_settings

REVIEWS = (
    "The sound is good. It is light.",
    "The sound is good and the battery lasts!",
    "Broke at once.",
)


def test_every_reference_column_counts_and_others_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "references.csv"
    path.write_text(
        "product_id,category,reference_1,reference_2\n"
        '1,shoes,"Good, but small.",Fits.\n2,,Nice.,\n',
    )
    assert read_references(path) == {"1": ("Good, but small.", "Fits."), "2": ("Nice.",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("product_id,summary\n1,Good.\n", "columns product_id, summary: expected product_id and"),
        ("asin,reference_1\n1,Good.\n", "columns asin, reference_1: expected product_id and"),
        ("product_id,reference_1\n1,Good.\n1,Bad.\n", "product 1 occurs twice"),
        ("product_id,reference_1\n,Good.\n", "a row has no id"),
        ("product_id,reference_1\n1,\n", "product 1 has no summary in Latin letters"),
        ("product_id,reference_1\n1,хорошо\n", "product 1 has no summary in Latin letters"),
        ("product_id,reference_1\n", "have no rows"),
        ("", "cannot be read"),
        (None, r"references\.csv cannot be read"),
    ],
)
def test_unusable_references_are_refused_with_a_reason(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "references.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(EvaluationError, match=message):
        read_references(path)


def test_baselines_see_the_whole_reviews_in_the_window() -> None:
    text = "\n".join(REVIEWS)
    row = {
        "product_id": "P",
        "all_reviews": text,
        "review_count": 3,
        "avg_rating": 4.5,
        "review_ratings": [5.0, 5.0, 1.0],
        "review_places": [2, 0, 1],
    }

    def seen(max_chars: int) -> tuple[str, ...]:
        settings = load_settings(max_chars=max_chars).summary_settings()
        return reviews_in_window(pl.DataFrame([row]), settings)["P"]

    assert seen(1000) == (REVIEWS[1], REVIEWS[2], REVIEWS[0])
    assert seen(len(text) - 1) == (REVIEWS[1], REVIEWS[0])
    assert seen(len(REVIEWS[0]) + 1 + len(REVIEWS[1])) == (REVIEWS[1], REVIEWS[0])
    assert seen(19) == ("The sound", "The sound")


def test_the_lead_is_the_first_sentence_of_each_review_then_the_second() -> None:
    assert lead(REVIEWS, 14.2) == (
        "The sound is good. The sound is good and the battery lasts! Broke at"
    )
    assert lead(REVIEWS, 100).endswith("Broke at once. It is light.")


def test_central_and_best_review_are_most_similar_to_reviews_and_references() -> None:
    reviews = ("Broke at once.", "The battery lasts.", "The sound is good, the battery lasts.")
    assert central_review((*reviews, "The sound is good.")) == reviews[2]
    assert central_review(reviews[:1]) == reviews[0]
    assert best_review(REVIEWS, ["It broke at once", "It broke"]) == REVIEWS[2]


def test_the_random_review_depends_on_the_seed_and_not_on_other_products() -> None:
    reviews = {str(product): tuple("abcdefgh") for product in range(20)}
    references = dict.fromkeys(reviews, ("a good product",))

    def chosen(seed: int, count: int) -> list[tuple[str, ...]]:
        some = dict(list(reviews.items())[:count])
        by_name = {found.name: found for found in baselines(some, references, seed)}
        return list(by_name[RANDOM].texts.values())

    assert chosen(1, 20)[:5] == chosen(1, 5)
    assert chosen(1, 20) != chosen(2, 20)
