from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.checkpoints.sides import Sides, window_text

# A review is one line with text.
REVIEWS = st.lists(st.text(st.characters(exclude_characters="\n"), min_size=1), max_size=5)


@given(REVIEWS, REVIEWS)
def test_a_window_is_divided_into_the_lines_that_it_was_made_of(
    liked: list[str], disliked: list[str]
) -> None:
    sides = Sides("\n".join(liked), "\n".join(disliked))
    frame = pl.DataFrame({"liked": [sides.liked], "disliked": [sides.disliked]})
    text = frame.select(window_text(pl.col("liked"), pl.col("disliked"))).item()
    assert Sides.of_window(text) == sides


@given(st.text(), st.text())
def test_a_summary_is_divided_into_its_texts_whatever_they_say(liked: str, disliked: str) -> None:
    sides = Sides(liked, disliked)
    assert Sides.of_summary(sides.summary, sides.chars) == sides


@pytest.mark.parametrize(
    ("liked", "disliked", "summary"),
    [
        ("The sound.", "The price.", "Liked: The sound. Disliked: The price."),
        ("Disliked: no.", "Liked: yes.", "Liked: Disliked: no. Disliked: Liked: yes."),
        ("The sound.", "", "Liked: The sound."),
        ("", "The price.", "Disliked: The price."),
    ],
)
def test_a_summary_names_the_sides_that_there_are(liked: str, disliked: str, summary: str) -> None:
    sides = Sides(liked, disliked)
    assert sides.summary == summary
    assert Sides.of_summary(summary, sides.chars) == sides
