"""The figures themselves, on texts small enough to count by hand."""

from __future__ import annotations

import polars as pl
import pytest

from reviewsum_assets.evaluation.measures import Bootstrap, Rouge, Sentiment, measure_text
from reviewsum_assets.evaluation.systems import (
    ReviewTable,
    baselines,
    best_review,
    central_review,
    lead,
)
from reviewsum_assets.settings import load_settings


@pytest.fixture(scope="module")
def rouge() -> Rouge:
    return Rouge()


def test_rouge_counts_stems_bigrams_and_the_longest_common_subsequence(rouge: Rouge) -> None:
    # Of 4 and 3 words, "batteri" and "last" are shared, in order, and not side by side.
    found = rouge.scores(["The battery really lasts"], "batteries always last")
    assert found == pytest.approx((4 / 7, 0, 4 / 7))


def test_of_several_references_the_mean_counts(rouge: Rouge) -> None:
    found = rouge.scores(["good sound", "bad battery"], "Good sound!")
    assert found == pytest.approx((0.5, 0.5, 0.5))


def test_similarity_is_the_same_both_ways(rouge: Rouge) -> None:
    one, other = "the sound is very good", "good is the sound"
    assert rouge.similarity(one, other) == pytest.approx(rouge.similarity(other, one))


def test_texts_are_measured_beside_their_reviews() -> None:
    found = measure_text(
        "Good sound. Good sound. Bad case.", ["Good sound, I think.", "It has a bad case, alas."]
    )
    assert found.words == 6
    assert found.compression == pytest.approx(10 / 6)
    # good sound, bad case are known; sound good, sound bad are not.
    assert found.novelty == pytest.approx(2 / 4)
    # good sound good, sound good sound, good sound bad, sound bad case: none twice.
    assert found.repetition == 0
    assert measure_text("a b c a b c", ["x"]).repetition == pytest.approx(1 / 4)


def test_an_empty_summary_can_be_measured(rouge: Rouge) -> None:
    assert measure_text("", ["Good sound."]) == (0, 2, 0, 0)
    assert rouge.scores(["Good sound."], "") == (0, 0, 0)


REVIEWS = (
    "The sound is good. It is light.",
    "The sound is good and the battery lasts!",
    "Broke at once.",
)


def test_baselines_see_the_whole_reviews_that_the_model_sees() -> None:
    text = "\n".join(REVIEWS)

    def seen(max_chars: int) -> tuple[str, ...]:
        row = {
            "product_id": "P",
            "all_reviews": text,
            "review_count": 3,
            "avg_rating": 4.5,
            "review_ratings": [5.0, 5.0, 1.0],
            "review_places": [2, 0, 1],
        }
        settings = load_settings(max_chars=max_chars).summary_settings()
        return ReviewTable(pl.DataFrame([row]), "here").by_product(settings)["P"].reviews

    assert seen(1000) == (REVIEWS[1], REVIEWS[2], REVIEWS[0])
    assert seen(len(text) - 1) == (REVIEWS[1], REVIEWS[0])
    assert seen(len(REVIEWS[0]) + 1 + len(REVIEWS[1])) == (REVIEWS[1], REVIEWS[0])
    assert seen(19) == ("The sound", "The sound")


def test_the_lead_is_the_first_sentence_of_each_review_then_the_second() -> None:
    assert lead(REVIEWS, 14.2) == (
        "The sound is good. The sound is good and the battery lasts! Broke at"
    )
    assert lead(REVIEWS, 100).endswith("Broke at once. It is light.")


def test_the_central_review_is_most_like_the_others(rouge: Rouge) -> None:
    reviews = ("Broke at once.", "The battery lasts.", "The sound is good, the battery lasts.")
    assert central_review((*reviews, "The sound is good."), rouge) == reviews[2]
    assert central_review(reviews[:1], rouge) == reviews[0]


def test_the_best_review_is_most_like_the_references(rouge: Rouge) -> None:
    assert best_review(REVIEWS, ["It broke at once", "It broke"], rouge) == REVIEWS[2]


def test_the_random_review_depends_on_the_seed_and_not_on_other_products(rouge: Rouge) -> None:
    reviews = {str(product): tuple("abcdefgh") for product in range(20)}
    references = dict.fromkeys(reviews, ("a good product",))

    def chosen(seed: int, count: int) -> list[tuple[str, ...]]:
        some = dict(list(reviews.items())[:count])
        (found,) = [c for c in baselines(some, references, rouge, seed) if c.name[:6] == "random"]
        return list(found.texts.values())

    assert chosen(1, 20)[:5] == chosen(1, 5)
    assert chosen(1, 20) != chosen(2, 20)


def test_intervals_hold_the_mean_and_are_the_same_again() -> None:
    values = [0.1, 0.2, 0.4, 0.8] * 10
    found = Bootstrap(40, seed=3).interval(values)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(0.375)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.268 / 40**0.5, rel=0.15)
    assert Bootstrap(40, seed=3).interval(values) == found


def test_a_difference_that_all_products_share_is_certain() -> None:
    bootstrap = Bootstrap(40, seed=0)
    one = [0.01 * place for place in range(40)]
    difference = bootstrap.interval([value + 0.05 - value for value in one])
    assert difference == pytest.approx((0.05, 0.05, 0.05))
    assert bootstrap.interval(one).high - bootstrap.interval(one).low > 0.05


def test_sentiment_that_follows_the_stars_agrees() -> None:
    words = ("bad", "mediocre", "okay", "good", "excellent")
    texts = [f"The sound is {word}." for word in words] * 2
    stars: list[float | None] = [1, 2, 3, 4, 5] * 2
    sentiment = Sentiment()
    assert sentiment.agreement(texts, stars) == pytest.approx(1)
    assert sentiment.agreement(texts[::-1], stars) == pytest.approx(-1)
    assert sentiment.agreement(["The sound is good."] * 10, stars) is None
    assert sentiment.agreement(texts, [*stars[:9], None]) is None
