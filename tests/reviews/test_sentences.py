from __future__ import annotations

import pytest

from reviewsum_assets.reviews.sentences import without_repeats


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The sound is great. The sound is great.", "The sound is great."),
        ("The sound is great. Great sound!", "The sound is great."),
        (
            "Buyers like the easy setup and the rich sound. They complain about the app. "
            "Buyers like the rich sound, and the easy setup.",
            "Buyers like the easy setup and the rich sound. They complain about the app.",
        ),
        ("It fits all my phones. It fitted all my phone.", "It fits all my phones."),
        ("It is what it is. It is what it is. So be it.", "It is what it is. So be it."),
    ],
)
def test_a_sentence_that_says_what_an_earlier_one_said_is_left_out(
    text: str, expected: str
) -> None:
    assert without_repeats(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The battery lasts all day. The battery does not last all day.",
        "The battery lasts 10 hours of video. The battery lasts 4 hours of video.",
        "It broke after two weeks of use. It broke after three weeks of use.",
        "Buyers like the rich sound and the setup. Buyers dislike the rich sound and the setup.",
        "It is a reliable and quiet printer. It is an unreliable and quiet printer.",
        "The sound is good for the price. The sound is bad for the price.",
        "The good points outweigh the bad ones. The bad points outweigh the good ones.",
        "The camera is better than the phone. The phone is better than the camera.",
        "Great sound. Great sound, and the battery lasts all day.",
        "Good for kids. Good for travel.",
        "とても良いです。 すぐに壊れました。",
        "",
        "  One sentence  ",
        "Two spaces.  Are kept.",
    ],
)
def test_sentences_that_differ_in_what_they_say_stay(text: str) -> None:
    assert without_repeats(text) == text
