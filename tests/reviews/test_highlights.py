from __future__ import annotations

import random

import pytest

from reviewsum_assets.reviews import highlights
from reviewsum_assets.reviews.highlights import MOST_WORDS, highlights_of, highlights_of_product
from tests.support.hostile import TEXTS


def chosen(reviews: list[str], stars: list[float | None] | None = None) -> list[str]:
    found = highlights_of(reviews, stars or [5.0] * len(reviews))
    return [highlight.sentence for highlight in found]


def test_the_sentence_that_most_reviews_support_comes_first() -> None:
    reviews = [
        "My uncle bought a yellow tractor. The battery lasts all day long.",
        "This battery lasts two whole days.",
        "Arrived on a rainy Tuesday. Great battery, it lasts for days!",
    ]
    found = highlights_of(reviews, [5.0, 4.0, None])
    assert "battery" in found[0].sentence
    by_sentence = {highlight.sentence: highlight for highlight in found}
    first = by_sentence["The battery lasts all day long."]
    assert (first.review, first.stars) == (0, 5.0)
    assert found.index(first) < [one.sentence for one in found].index(
        "My uncle bought a yellow tractor."
    )


def test_every_sentence_is_verbatim_in_the_review_that_it_names() -> None:
    rng = random.Random(1)
    words = ("battery", "screen", "sound", "good", "bad", "heavy", "LASTS", "Café", "don\u2019t")
    reviews = [
        " ".join(
            " ".join(rng.choices(words, k=rng.randint(3, 12))) + rng.choice(".!?") for _ in "abc"
        )
        for _ in range(50)
    ]
    stars = [float(rng.randint(1, 5)) for _ in reviews]
    found = highlights_of(reviews, stars)
    assert found
    for sentence, review, rating in found:
        assert sentence in reviews[review]
        assert rating == stars[review]
    assert sum(len(highlight.sentence.split()) for highlight in found) <= MOST_WORDS


def test_what_a_chosen_sentence_says_already_is_left_out() -> None:
    reviews = ["The battery lasts all day long."] * 5 + ["The battery lasts all day long!"]
    assert chosen(reviews) == ["The battery lasts all day long."]


@pytest.mark.parametrize(
    ("critical", "most"), [(0, 0), (1, 6), (3, 18), (5, 30), (9, 54), (10, 60)]
)
def test_critical_reviews_have_their_share_of_the_words(critical: int, most: int) -> None:
    parts = ("hinge", "plug", "cable", "strap", "wheel")
    good = [f"The {part} works really well." for part in parts] * 2
    bad = [f"Sadly its {part} broke quickly." for part in parts] * 2
    reviews = bad[:critical] + good[critical:]
    stars = [1.0] * critical + [5.0] * (10 - critical)
    found = highlights_of(reviews, list(stars))
    words = sum(len(one.sentence.split()) for one in found if one.stars == 1.0)
    assert words <= most
    assert bool(words) == (critical > 0)
    assert any(one.stars == 5.0 for one in found) == (critical < 10)


def test_reviews_in_one_line_support_each_other_by_sentence() -> None:
    line = "The battery lasts long. I like trains very much. The battery lasts very long indeed."
    found = highlights_of_product(line, None)
    assert "battery" in found[0].sentence
    assert {(one.review, one.stars) for one in found} == {(0, None)}


@pytest.mark.parametrize("reviews", [[""], ["   "], ["Good. Bad. Ok."], ["the and of it is a"], []])
def test_reviews_without_a_sentence_worth_showing_have_no_highlights(reviews: list[str]) -> None:
    assert highlights_of(reviews, [None] * len(reviews)) == []


@pytest.mark.parametrize("text", TEXTS)
def test_hostile_texts_are_read_as_others(text: str) -> None:
    line = " ".join(text.split())
    found = highlights_of([line, f"{line} The battery lasts all day long."], [1.0, 5.0])
    assert all(sentence in f"{line} The battery lasts all day long." for sentence, _, _ in found)


def test_of_many_reviews_evenly_spread_ones_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highlights, "_MOST_REVIEWS", 3)
    topics = ["lamp", "cable", "screen", "wheel", "handle", "motor"]
    reviews = [f"The {topic} broke after {topic} use." for topic in topics]
    assert sorted(one.review for one in highlights_of(reviews, [1.0] * 6)) == [0, 2, 4]


def test_of_many_sentences_the_nearest_to_all_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highlights, "_MOST_CANDIDATES", 1)
    reviews = ["The battery lasts long.", "My aunt owns goats.", "A battery that lasts long."]
    assert chosen(reviews) == ["The battery lasts long."]


def test_of_a_long_review_the_beginning_is_read_up_to_its_last_whole_sentence() -> None:
    long = "The sound is really nice. " + "word " * 1_000
    assert chosen([long]) == ["The sound is really nice."]
