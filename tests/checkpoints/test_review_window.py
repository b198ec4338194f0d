from __future__ import annotations

import polars as pl
import pytest

from reviewsum_assets.checkpoints.review_window import windows
from reviewsum_assets.settings import SummarySettings


def seen(text: str | None, reviews: int, chars: int) -> tuple[object, ...]:
    frame = pl.LazyFrame(
        {"product_id": ["P"], "all_reviews": [text], "review_count": [reviews]},
        schema={"product_id": pl.String, "all_reviews": pl.String, "review_count": pl.Int64},
    )
    found = windows(frame, SummarySettings(max_chars=chars)).collect()
    (row,) = found.select("text", "reviews_read", "cut_reviews").iter_rows()
    return row


@pytest.mark.parametrize(
    ("chars", "expected"),
    [
        (2, ("ää", 0, [0])),
        (3, ("äää", 1, [])),  # what follows is the end of the review
        (4, ("äää\n", 1, [])),  # of the next review there is nothing
        (5, ("äää\nb", 1, [1])),
        (7, ("äää\nbbb", 2, [])),
        (10, ("äää\nbbb\ncc", 2, [2])),
        (11, ("äää\nbbb\nccc", 3, [])),
        (99, ("äää\nbbb\nccc", 3, [])),
    ],
)
def test_a_review_that_the_window_cuts_is_not_read_but_cut(
    chars: int, expected: tuple[str, int, list[int]]
) -> None:
    assert seen("äää\nbbb\nccc", 3, chars) == expected


def test_of_reviews_that_cannot_be_told_apart_all_or_an_unknown_number_are_read() -> None:
    assert seen("good sound bad battery", 2, 99) == ("good sound bad battery", 2, [])
    assert seen("good sound bad battery", 2, 10) == ("good sound", None, None)


def test_no_text_is_no_known_number_of_reviews() -> None:
    assert seen(None, 2, 10) == (None, None, None)
