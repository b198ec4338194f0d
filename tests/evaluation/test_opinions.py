from __future__ import annotations

import pytest

from reviewsum_assets.evaluation.opinions import AllReviews, opinions_of

REVIEWS = AllReviews(
    (
        "The sound is great. I bought it in May.",
        "Great sound, and a bright screen!",
        "The battery is terrible.",
        "Awful battery, bad service",
    ),
    (5.0, 4.0, 1.0, None),
)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The sound is great. The battery is terrible.", 1 / 2),
        ("Great sound. Terrible battery! The service is bad.", 2 / 3),
        ("Terrible battery. It has two buttons. It is black.", 1),
        ("It has two buttons.", 0),
        ("", 0),
    ],
)
def test_critical_sentences_are_counted_among_those_with_an_opinion(
    text: str, share: float
) -> None:
    found = opinions_of(text, REVIEWS)
    assert found.critical == pytest.approx(share)
    # One of the three reviews with stars has fewer than 3.
    assert found.critical_gap == pytest.approx(abs(share - 1 / 3))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Liked: It is black. The sound is great. Disliked: The size is large.", 1 / 2),
        ("Liked: It has two buttons. Disliked: The sound is great.", 1),
        ("Disliked: The sound is great.", 1),
        ("Liked: The sound is great. The battery is terrible.", 1 / 2),
        ("It is black. Disliked: The size is large. The sound is great.", 1 / 2),
    ],
    ids=["both", "labels have no opinion", "disliked only", "liked only", "no label at the start"],
)
def test_every_sentence_on_the_disliked_side_is_critical(text: str, share: float) -> None:
    assert opinions_of(text, REVIEWS).critical == pytest.approx(share)


def test_without_stars_no_share_of_criticism_is_expected() -> None:
    unrated = REVIEWS._replace(stars=(None,) * 4)
    found = opinions_of("The battery is terrible.", unrated)
    assert (found.critical, found.critical_gap) == (None, None)
    assert (found.supported, unrated.critical_share) == (1, None)


def test_sentences_are_supported_by_reviews_that_say_the_same() -> None:
    supported = "The sound is great. The battery is terrible. "
    assert opinions_of(supported, REVIEWS).supported == 1
    invented = "The leather strap smells of roses."
    assert opinions_of(supported + invented, REVIEWS).supported == pytest.approx(2 / 3)
    # Nothing is claimed about the product.
    assert opinions_of(f"{supported} Opinions are mixed.", REVIEWS).supported == 1
    assert opinions_of("Opinions are mixed.", REVIEWS).supported is None
    assert opinions_of("", REVIEWS).supported is None


def test_sentences_that_repeat_an_earlier_one_are_counted() -> None:
    text = "The sound is great. The battery is bad. The sound is great! Great sound."
    assert opinions_of(text, REVIEWS).repeated_sentences == pytest.approx(2 / 4)
    assert opinions_of("The sound is great. It is black.", REVIEWS).repeated_sentences == 0
    assert opinions_of("", REVIEWS).repeated_sentences == 0


def test_all_reviews_are_compared_also_where_one_line_has_them_all() -> None:
    lines = "\n".join(REVIEWS.texts)
    assert AllReviews.of_product(lines, [5.0, 4.0, 1.0, None]).texts == list(REVIEWS.texts)
    # VADER finds "I bought it in May." neutral, and two of the five others critical.
    assert REVIEWS.critical_sentences == pytest.approx(2 / 4)
    whole = AllReviews.of_product(". ".join(REVIEWS.texts), None)
    assert set(whole.stars) == {None}
    found = opinions_of("The battery is terrible. The strap is of leather.", whole)
    assert (found.supported, found.critical) == (1 / 2, None)
