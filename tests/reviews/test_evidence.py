from __future__ import annotations

from collections.abc import Sequence

import pytest

from reviewsum_assets.reviews import evidence
from reviewsum_assets.reviews.evidence import Evidence, evidence_of, shortened
from reviewsum_assets.reviews.highlights import highlights_of_product
from reviewsum_assets.reviews.sentences import SENTENCE_END

REVIEWS = [
    "The battery lasts all day long. I bought two.",
    "Its battery lasts all day!",
    "Sadly, the battery does not last all day.",
    "The screen is bright and sharp.",
    "A terrible screen. It arrived late.",
    "The size is right for my bag.",
]
STARS = [5.0, 4.0, 1.0, 5.0, 1.0, None]


def one(
    sentence: str, reviews: Sequence[str] = REVIEWS, stars: Sequence[float | None] = STARS
) -> Evidence:
    (found,) = evidence_of([sentence], reviews, stars)
    return found


def test_reviews_that_say_the_same_support_a_sentence_and_are_quoted() -> None:
    found = one("The battery lasts all day, great!")
    assert (found.reviews, found.support, found.supported) == (6, 2, True)
    assert [(quote.quote, quote.review) for quote in found.quotes] == [
        ("The battery lasts all day long.", 0),
        ("Its battery lasts all day!", 1),
    ]
    assert all(quote.quote in REVIEWS[quote.review] for quote in found.quotes)


def test_a_review_of_the_opposite_direction_speaks_against_a_sentence() -> None:
    found = one("The screen is great.")
    assert (found.support, found.against, found.supported) == (1, 1, True)
    assert [quote.review for quote in found.quotes] == [3]


def test_stars_decide_where_words_have_no_direction() -> None:
    reviews = ["The controls are at the back."] * 2
    assert [one("Awful controls.", reviews, [stars] * 2).against for stars in (5.0, 1.0, 3.0)] == [
        2,
        0,
        0,
    ]


def test_the_same_words_are_support_whatever_their_direction() -> None:
    text = "She could not be happier with it."
    assert one(text, [text], [1.0]).support == 1
    assert (
        one(
            "The battery does last all day, great.", ["The battery does not last all day."], [1.0]
        ).support
        == 0
    )


def test_a_lost_negation_is_no_support() -> None:
    review = "It did not fit my phone at all."
    assert (one("It did fit my phone at all.", [review], [3.0]).supported) is False
    assert (one("It did not fit my phone at all.", [review], [3.0]).supported) is True


def test_a_sentence_that_no_review_says_is_unsupported() -> None:
    for sentence in ("The warranty covers water damage.", "Le chat est noir."):
        found = one(sentence)
        assert (found.support, found.supported, found.quotes) == (0, False, ())
        assert found.score < evidence.MATCH


def test_of_a_list_each_claim_counts() -> None:
    assert one("Buyers like the bright screen and the right size.").score > 0.6
    found = one("Buyers like the bright screen, the free shipping and the kind support.")
    assert (found.support, found.supported) == (1, False)
    assert 0.2 < found.score < evidence.MATCH


@pytest.mark.parametrize(
    "sentence",
    [
        "Overall, the praise outweighs the criticism.",
        "It gets what it gets.",
        "It is what it is.",
        "",
    ],
)
def test_a_sentence_that_claims_nothing_is_neither(sentence: str) -> None:
    assert one(sentence).supported is None


def test_the_quote_with_more_votes_is_the_better_one() -> None:
    reviews = ["The strap broke.", "The strap broke.", "The strap broke."]
    (found,) = evidence_of(["The strap broke."], reviews, [1.0] * 3, [0, 7, None])
    assert [quote.review for quote in found.quotes] == [1, 0, 2]


def test_blocks_of_reviews_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = ["The battery lasts all day.", "The screen is bright.", "It came late."]
    whole = evidence_of(sentences, REVIEWS * 3, STARS * 3)
    monkeypatch.setattr(evidence, "_REVIEWS_AT_A_TIME", 4)
    assert evidence_of(sentences, REVIEWS * 3, STARS * 3) == whole


def test_lines_of_a_text_that_has_no_separate_reviews_are_sentences() -> None:
    text = "good battery life\nbad screen\n\nlasts long. The battery is fine"
    reviews = SENTENCE_END.split(text)
    assert reviews == ["good battery life", "bad screen", "lasts long.", "The battery is fine"]
    assert one("The screen is bad.", reviews, [None] * 4).quotes[0].quote == "bad screen"
    assert all(found.review == 0 for found in highlights_of_product(text, None))


def test_no_reviews_and_empty_reviews_support_nothing() -> None:
    assert one("The screen is bright.", [], []).supported is None
    assert one("The screen is bright.", ["", " "], [5.0, None]).supported is False


def test_a_long_quote_is_cut_and_an_endless_review_is_read_to_its_limit() -> None:
    (quote,) = one("The strap broke.", ["The strap broke " + "and broke " * 90], [1.0]).quotes
    assert len(quote.quote) <= 300
    late = ". ".join(["Fine"] * 2_000) + ". The strap broke."
    assert one("The strap broke.", [late], [1.0]).support == 0


def test_a_text_keeps_the_sentences_with_the_most_agreement() -> None:
    text = "It has four wheels. The battery lasts all day. The screen is bright."
    assert shortened(text, 9, REVIEWS, STARS) == "The battery lasts all day. The screen is bright."
    assert shortened(text, 99, REVIEWS, STARS) == text
    assert shortened(text, 1, REVIEWS, STARS) == "The battery lasts all day."
