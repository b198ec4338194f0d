from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.checkpoints.review_sampling import Side, representative, side_of

STARS = st.lists(st.sampled_from([None, 1.0, 2.0, 3.0, 3.5, 4.0, 5.0]), min_size=1, max_size=60)


def named(*ratings: float | None, words: int = 3) -> list[str]:
    """Reviews of some words; the first says its place and rating."""
    return [f"r{place}:{rating} " + "word " * (words - 1) for place, rating in enumerate(ratings)]


def lines(ratings: list[float | None], chars: int, words: int = 3) -> list[str]:
    reviews = [review.strip() for review in named(*ratings, words=words)]
    return representative(reviews, ratings, chars).text.split("\n")


def test_the_one_complaint_among_many_praises_is_read() -> None:
    ratings: list[float | None] = [*[5.0] * 200, 1.0]
    read = lines(ratings, 200)
    assert read[:2] == ["r0:5.0 word word", "r200:1.0 word word"]


def test_sides_have_their_share_wherever_the_window_ends() -> None:
    ratings: list[float | None] = [5.0, 5.0, 5.0, 1.0] * 50
    for chars in (300, 600, 1200):
        read = lines(ratings, chars)
        critical = sum(":1.0" in line for line in read)
        assert abs(critical - len(read) / 4) <= 1


def test_within_a_side_the_order_stays() -> None:
    places = [int(line[1:].split(":")[0]) for line in lines([4.0, 5.0] * 40, 500)]
    assert places == sorted(places)


def test_a_long_praise_is_cut_at_a_word_and_leaves_room_for_the_complaint() -> None:
    reviews = ["good " * 100 + "end", "bad sound", "also good"]
    found = representative(reviews, [5.0, 1.0, 5.0], 100)
    assert found.text.split("\n") == [("good " * 10)[:-1], "bad sound", "also good"]
    assert (found.cut, found.ratings) == ((0,), (5.0, 1.0, 5.0))


def test_a_word_longer_than_the_window_is_cut_within() -> None:
    assert representative(["x" * 50], [None], 20).text == "x" * 20


@given(STARS, st.integers(1, 400), st.integers(1, 30))
def test_a_window_holds_beginnings_of_reviews_and_one_of_each_side_that_it_has_room_for(
    ratings: list[float | None], chars: int, words: int
) -> None:
    reviews = [review.strip() for review in named(*ratings, words=words)]
    found = representative(reviews, ratings, chars)
    assert found == representative(reviews, ratings, chars)
    assert len(found.text) <= chars
    read = found.text.split("\n")
    assert len(read) == len(found.ratings) <= len(reviews)
    for place, line in enumerate(read):
        assert any(review.startswith(line) for review in reviews)
        assert (line in reviews) == (place not in found.cut)
    if chars >= 4 * 10:
        sides: set[Side] = set(map(side_of, ratings))
        assert set(map(side_of, found.ratings)) == sides
    if chars >= len("\n".join(reviews)):
        assert sorted(read) == sorted(reviews)
