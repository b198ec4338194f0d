from __future__ import annotations

import pytest

from reviewsum_assets.evaluation.measures import (
    bootstrap_interval,
    measure,
    sentiment_agreement,
)


@pytest.mark.parametrize(
    ("references", "text", "expected"),
    [
        # Of 4 and 3 words, "batteri" and "last" are shared, in order, but not adjacent.
        (["The battery really lasts"], "batteries always last", (4 / 7, 0, 4 / 7)),
        (["good sound", "bad battery"], "Good sound!", (0.5, 0.5, 0.5)),
        (["Good sound."], "", (0, 0, 0)),
    ],
    ids=["stems", "mean of several references", "empty"],
)
def test_rouge_counts_stems_and_takes_the_mean_over_references(
    references: list[str], text: str, expected: tuple[float, ...]
) -> None:
    assert measure(text, references, [])[:3] == pytest.approx(expected)


def test_texts_are_measured_against_their_reviews() -> None:
    reviews = ["Good sound, I think.", "It has a bad case, alas."]
    found = measure("Good sound. Good sound. Bad case.", ["x"], reviews)
    assert found.words == 6
    assert found.compression == pytest.approx(10 / 6)
    # "good sound" and "bad case" are known; "sound good" and "sound bad" are not.
    assert found.novelty == pytest.approx(2 / 4)
    # good sound good, sound good sound, good sound bad, sound bad case: all distinct.
    assert found.repetition == 0
    assert measure("a b c a b c", ["x"], ["x"]).repetition == pytest.approx(1 / 4)
    assert measure("", ["x"], ["Good sound."])[3:] == (0, 2, 0, 0)


def test_intervals_contain_the_mean_and_are_reproducible() -> None:
    values = [0.1, 0.2, 0.4, 0.8] * 10
    found = bootstrap_interval(values, seed=3)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(0.375)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.268 / 40**0.5, rel=0.15)
    assert bootstrap_interval(values, seed=3) == found
    assert bootstrap_interval([0.05] * 40, seed=0) == pytest.approx((0.05, 0.05, 0.05))


def test_sentiment_that_follows_the_stars_agrees() -> None:
    words = ("bad", "mediocre", "okay", "good", "excellent")
    texts = [f"The sound is {word}." for word in words] * 2
    stars: list[float | None] = [1, 2, 3, 4, 5] * 2
    assert sentiment_agreement(texts, stars) == pytest.approx(1)
    assert sentiment_agreement(texts[::-1], stars) == pytest.approx(-1)
    assert sentiment_agreement(["The sound is good."] * 10, stars) is None
    assert sentiment_agreement(texts, [*stars[:9], None]) is None
