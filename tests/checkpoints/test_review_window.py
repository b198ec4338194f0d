from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.checkpoints import review_window
from reviewsum_assets.checkpoints.plan import Recipe
from reviewsum_assets.checkpoints.review_window import read_reviews, windows
from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.errors import PlanError
from reviewsum_assets.reviews.fields import REVIEW_SCHEMA
from reviewsum_assets.reviews.highlights import highlights_of
from reviewsum_assets.reviews.staging import StagedReviews
from reviewsum_assets.settings import SummarySettings
from tests.support.checkpoints import grouped as grouped_texts

Order = Literal["helpful", "representative", "consensus"]
ORDERS: tuple[Order, ...] = ("helpful", "representative", "consensus")
Ratings = Sequence[float | None]


@dataclass(frozen=True)
class Window:
    """A window as the plan has it."""

    text: str | None
    read: int | None
    cut: list[int] | None
    ratings: list[float | None] | None

    @property
    def lines(self) -> list[str]:
        return (self.text or "").split("\n")


def window(
    reviews: Sequence[str],
    chars: int,
    *,
    ratings: Ratings | None = None,
    places: Sequence[int] | None = None,
    order: Order = "helpful",
) -> Window:
    """The window of reviews that are given by rank; unless places say, the last one is oldest."""
    frame = pl.LazyFrame(
        {
            "product_id": ["P"],
            "all_reviews": ["\n".join(reviews)],
            "review_count": [len(reviews)],
            "review_ratings": [ratings or [None] * len(reviews)],
            "review_places": [places or list(range(len(reviews)))[::-1]],
        },
        schema_overrides={
            "review_ratings": pl.List(pl.Float32),
            "review_places": pl.List(pl.Int32),
        },
    )
    return only(frame, chars, order)


def only(grouped: pl.LazyFrame, chars: int, order: Order = "helpful") -> Window:
    """The window of the only product."""
    settings = SummarySettings(max_chars=chars, review_order=order)
    (row,) = windows(grouped, settings).drop("product_id").collect().iter_rows()
    return Window(*row)


@dataclass(frozen=True)
class Voted:
    """A review with the votes that it has by now."""

    text: str
    votes: int
    day: int | None
    rating: float | None

    @property
    def rank(self) -> tuple[int, int, str]:
        """Ascending from the one to read last; independent of how grouping does it."""
        classes = [2**n <= self.votes for n in range(1, 40)]
        return sum(classes), *self.age

    @property
    def age(self) -> tuple[int, str]:
        """Ascending from the oldest."""
        return -1 if self.day is None else self.day, self.text


def grouped(reviews: Sequence[Voted]) -> pl.LazyFrame:
    """These reviews of one product, as grouping puts them together."""
    rows: list[dict[str, Any]] = [
        {
            "product_id": "P",
            "reviewer_id": "A",
            "text": review.text,
            "title": "",
            "rating": review.rating,
            "helpful_votes": review.votes or None,
            "timestamp": None if review.day is None else 86_400 * review.day,
        }
        for review in reviews
    ]
    with tempfile.TemporaryDirectory() as scratch:
        staged = StagedReviews(Path(scratch, "staged"), 0)
        staged.add(pl.DataFrame(rows, schema=REVIEW_SCHEMA))
        (bucket,) = staged.grouped(1)
    return bucket.products.lazy()


@st.composite
def products(draw: st.DrawFn) -> list[Voted]:
    """Reviews of one product, all texts different."""
    stars = st.sampled_from([None, 1.0, 3.0, 4.0, 5.0])
    days = st.none() | st.integers(0, 30)
    review = st.tuples(st.integers(1, 60), st.integers(0, 900), days, stars)
    return [
        Voted(f"{number:02d} {'w ' * chars}end", votes, day, rating)
        for number, (chars, votes, day, rating) in enumerate(
            draw(st.lists(review, min_size=1, max_size=25))
        )
    ]


@given(products(), st.integers(20, 900), st.sampled_from(ORDERS), st.randoms())
def test_votes_that_keep_the_chosen_reviews_keep_the_text_and_its_hash(
    reviews: list[Voted], chars: int, order: Order, random: Any
) -> None:
    before = only(grouped(reviews), chars, order)
    chosen = {line.partition(" ")[0] for line in before.lines}
    # The chosen ones pass each other, and none of the others passes them.
    more = [
        replace(review, votes=random.randrange(1 << 10, 1 << 29))
        if review.text.partition(" ")[0] in chosen
        else review
        for review in reviews
    ]
    after = only(grouped(more), chars, order)
    assert after == before
    recipe = Recipe(model_version="m", settings=SummarySettings(max_chars=chars))
    assert recipe.input_hash(after.text) == recipe.input_hash(before.text)


@pytest.mark.parametrize("order", ["helpful", "consensus"])
@given(products(), st.integers(20, 900))
def test_the_chosen_reviews_are_those_of_highlights_then_the_most_helpful_that_fit(
    order: Order, reviews: list[Voted], chars: int
) -> None:
    ranked = sorted(reviews, key=lambda review: review.rank, reverse=True)
    if order == "consensus":
        oldest_first = sorted(reviews, key=lambda review: review.age)
        texts, stars = zip(*((one.text, one.rating) for one in oldest_first), strict=True)
        holders = [oldest_first[found.review] for found in highlights_of(texts, stars)]
        ranked = list(dict.fromkeys([*holders, *ranked]))
    expected: list[Voted] = []
    room = chars + 1
    for review in ranked:
        room -= min(len(review.text), (chars + 1) // 2 - 1) + 1
        if room < 0:
            break
        expected.append(review)
    found = only(grouped(reviews), chars, order)
    oldest_first = sorted(expected, key=lambda review: review.age)
    assert [line[:2] for line in found.lines] == [review.text[:2] for review in oldest_first]
    assert found.ratings == [review.rating for review in oldest_first]


@given(products(), st.integers(1, 900), st.sampled_from(ORDERS))
def test_a_window_never_exceeds_its_characters_and_cuts_long_reviews_alone(
    reviews: list[Voted], chars: int, order: Order
) -> None:
    found = only(grouped(reviews), chars, order)
    texts = {review.text[:2]: review.text for review in reviews}
    assert len(found.text or "") <= chars
    assert found.cut is not None
    assert found.read == len(found.lines) - len(found.cut)
    if chars >= 20:
        wholes = [texts[line[:2]] for line in found.lines]
        for place, (line, whole) in enumerate(zip(found.lines, wholes, strict=True)):
            assert whole.startswith(line)
            assert (line != whole) == (place in found.cut)
        cut = [len(wholes[place]) for place in found.cut]
        assert all(len(line) <= min(cut, default=chars) for line in found.lines)
    if chars >= len("\n".join(texts.values())):
        assert (found.read, found.cut) == (len(reviews), [])


@pytest.mark.parametrize("order", ORDERS)
def test_one_more_vote_changes_a_window_only_where_it_doubles_the_votes(order: Order) -> None:
    reviews = [Voted(f"{number:02d} long enough", 0, number, 5.0) for number in range(20)]
    before = only(grouped(reviews), 100, order)
    for votes, same in ((1, True), (2, False)):
        voted = [replace(reviews[0], votes=votes), *reviews[1:]]
        assert (only(grouped(voted), 100, order) == before) is same


def test_a_new_review_is_appended_while_there_is_room() -> None:
    reviews = [Voted(f"{number:02d} long enough", number, number, None) for number in range(5)]
    before, after = (only(grouped(some), 500) for some in (reviews[:-1], reviews))
    assert after.text == f"{before.text}\n04 long enough"
    undated = Voted("long enough, of unknown day", 9, None, None)
    assert only(grouped([*reviews, undated]), 500).text == f"{undated.text}\n{after.text}"


@pytest.mark.parametrize(
    ("chars", "expected"),
    [
        (1, ("a", 0, [0])),
        (9, ("cccc\naaaa", 2, [])),
        (12, ("cccc\naaaa", 2, [])),  # of the next review there is nothing, and no beginning
        (14, ("bbbb\ncccc\naaaa", 3, [])),
        (99, ("bbbb\ncccc\naaaa", 3, [])),
    ],
)
def test_whole_reviews_are_chosen_by_rank_while_they_fit_then_laid_from_the_oldest(
    chars: int, expected: tuple[str, int, list[int]]
) -> None:
    found = window(["aaaa", "cccc", "bbbb"], chars, places=[2, 1, 0])
    assert (found.text, found.read, found.cut) == expected


def test_long_reviews_share_what_the_others_leave_and_end_at_a_word() -> None:
    long, short = "good " * 100 + "end", "bad sound"
    found = window([long, short, "also good"], 100)
    assert found.lines == ["also good", "bad sound", ("good " * 16)[:-1]]
    assert (found.read, found.cut) == (2, [2])
    # A long review counts for half, so that a second one of any length still fits.
    assert [len(line) for line in window([long, long, short], 101).lines] == [49, 49]
    assert window(["x" * 50], 20).text == "x" * 20


def test_the_one_complaint_among_many_praises_is_read() -> None:
    reviews, ratings = [f"praise {number:03d}" for number in range(200)], [5.0] * 200
    found = window([*reviews, "complaint"], 60, ratings=[*ratings, 1.0], order="representative")
    assert found.lines == ["complaint", *reviews[3::-1]]
    assert found.ratings == [1.0, *[5.0] * 4]
    long = ["good " * 100 + "end", "also good", "bad sound"]
    found = window(long, 24, ratings=[5.0, 4.0, 1.0], order="representative")
    assert found.lines == ["bad sound", "good good good"]
    # Each side has its share wherever the window ends.
    ratings = [5.0, 5.0, 5.0, 1.0] * 50
    reviews = [f"review {number:03d}" for number in range(200)]
    for chars in (110, 330, 660):
        found = window(reviews, chars, ratings=ratings, order="representative")
        assert found.ratings is not None
        assert abs(found.ratings.count(1.0) - len(found.ratings) / 4) <= 1


@pytest.mark.parametrize("ratings", [None, [4.0] * 44])
def test_what_most_reviews_say_is_read_whatever_their_votes(ratings: Ratings | None) -> None:
    others = [f"thing {number:02d}" for number in range(40)]  # too short for highlights
    said = [f"{word}, the battery lasts two days" for word in ("Wow", "Really", "Yes", "Indeed")]
    found = window([*others, *said], 80, ratings=ratings, order="consensus")
    assert found.lines == [said[3], *others[4::-1]]
    # With the opposite votes the same review is read first, and then the others.
    reviews = [*said[::-1], *others[::-1]]
    found = window(reviews, 80, ratings=ratings, places=range(44), order="consensus")
    assert found.lines == [said[3], said[2]]


@given(
    st.lists(st.sampled_from([None, 1.0, 2.0, 3.0, 3.5, 4.0, 5.0]), min_size=1, max_size=60),
    st.integers(40, 400),
    st.integers(1, 30),
)
def test_a_representative_window_has_one_of_each_side(
    ratings: list[float | None], chars: int, words: int
) -> None:
    def sides(found: Ratings) -> set[object]:
        return {stars and (stars >= 3) + (stars >= 4) for stars in found}

    reviews = [" ".join(["word"] * words)] * len(ratings)
    found = window(reviews, chars, ratings=ratings, order="representative")
    assert found.ratings is not None
    assert sides(found.ratings) == sides(ratings)


def two_sided(grouped: pl.LazyFrame, chars: int, order: Order = "helpful") -> list[Window]:
    """The windows of products whose sides are apart."""
    settings = SummarySettings(
        strategy="two_sided", hierarchical_chars=chars, review_order=order, max_length=256
    )
    rows = windows(grouped, settings).drop("product_id").collect().iter_rows()
    return [Window(*row) for row in rows]


def rated(*products: Sequence[tuple[str, float | None]]) -> pl.LazyFrame:
    """Products of reviews with stars, by rank; the last review is the oldest."""
    return pl.LazyFrame(
        {
            "product_id": [f"P{number}" for number in range(len(products))],
            "all_reviews": ["\n".join(text for text, _ in reviews) for reviews in products],
            "review_count": [len(reviews) for reviews in products],
            "review_ratings": [[stars for _, stars in reviews] for reviews in products],
            "review_places": [list(range(len(reviews)))[::-1] for reviews in products],
        },
        schema_overrides={"review_ratings": pl.List(pl.Float32)},
    )


def test_each_side_has_its_reviews_and_those_without_stars_have_none() -> None:
    reviews = [("good", 5.0), ("bad", 1.0), ("none", None), ("fine", 4.0), ("so so", 3.5)]
    found = two_sided(
        rated(reviews, reviews[:1], reviews[1:2], reviews[2:3], [("new", 4.0), ("old", None)]), 99
    )
    assert found == [
        Window("fine\ngood\n\nso so\nbad", 4, [], [4.0, 5.0, 3.5, 1.0]),
        Window("good", 1, [], [5.0]),
        Window("\n\nbad", 1, [], [1.0]),
        Window("", 0, [], []),
        Window("new", 1, [], [4.0]),
    ]
    assert read_reviews(found[0].text or "") == ["fine", "good", "so so", "bad"]


@given(products(), st.integers(4, 900), st.sampled_from(ORDERS))
def test_sides_never_exceed_the_window_nor_mix_and_take_what_the_other_leaves(
    reviews: list[Voted], chars: int, order: Order
) -> None:
    rated_ones = [review for review in reviews if review.rating is not None]
    if not rated_ones:
        return
    (found,) = two_sided(grouped(reviews), chars, order)
    text = found.text or ""
    assert len(text) <= chars
    lines, ratings = read_reviews(text), found.ratings or []
    assert found.cut is not None and found.read == len(lines) - len(found.cut)
    liked, disliked = (side.split("\n") if side else [] for side in Sides.of_window(text))
    assert [line >= 4 for line in map(float, filter(None, ratings))] == [
        *([True] * len(liked)),
        *([False] * len(disliked)),
    ]
    assert (bool(liked), bool(disliked)) == (
        any((review.rating or 0) >= 4 for review in rated_ones),
        any((review.rating or 9) < 4 for review in rated_ones),
    )
    if chars >= 80:
        stars = {review.text[:2]: review.rating for review in reviews}
        assert [stars[line[:2]] for line in lines] == ratings
    if chars >= 2 + len("\n".join(review.text for review in rated_ones)):
        assert (found.read, found.cut) == (len(rated_ones), [])


def test_a_window_that_all_reviews_just_fill_cuts_none() -> None:
    reviews = [(f"good {number:03d}", 5.0) for number in range(9)] + [("long " * 9 + "bad", 1.0)]
    chars = len("\n".join(text for text, _ in reviews)) + 1
    (found,) = two_sided(rated(reviews), chars)
    assert (len(found.text or ""), found.read, found.cut) == (chars, 10, [])
    (short,) = two_sided(rated(reviews), chars - 1)
    assert (short.read, short.cut) == (9, [9])


@pytest.mark.parametrize(
    ("liked", "disliked", "share"), [(300, 100, 0.25), (200, 200, 0.5), (390, 10, 0.25)]
)
def test_a_side_has_its_share_of_the_window_and_at_least_a_quarter(
    liked: int, disliked: int, share: float
) -> None:
    praise = [(f"good {number:03d} {'w' * 90}", 5.0) for number in range(liked)]
    complaints = [(f"bad  {number:03d} {'w' * 90}", 1.0) for number in range(disliked)]
    (found,) = two_sided(rated([*praise, *complaints]), 4_002)
    sides = Sides.of_window(found.text or "")
    expected = min(share * 4_000, 100 * disliked)
    assert len(sides.disliked) == pytest.approx(expected, abs=100)
    assert len(sides.liked) == pytest.approx(4_000 - expected, abs=100)
    # One complaint needs little, and the praise has the rest.
    (found,) = two_sided(rated([*praise, *complaints[:1]]), 4_002)
    assert [len(side) for side in Sides.of_window(found.text or "")] == [39 * 100 - 1, 99]


@pytest.mark.parametrize(
    "frame",
    [rated([("good", None), ("bad", None)], [("new", None)]), grouped_texts({"a": "good\nbad"})],
)
def test_sides_need_stars(frame: pl.LazyFrame) -> None:
    with pytest.raises(PlanError, match=r"two_sided divides reviews by their stars.+ hierarchical"):
        two_sided(frame, 99)


def unknown(text: str | None, chars: int) -> Window:
    """The window of a grouped CSV, whose reviews cannot be separated."""
    frame = pl.LazyFrame(
        {"product_id": ["P"], "all_reviews": [text], "review_count": [2]},
        schema={"product_id": pl.String, "all_reviews": pl.String, "review_count": pl.Int64},
    )
    return only(frame, chars)


def test_of_reviews_that_cannot_be_separated_all_or_an_unknown_number_are_read() -> None:
    assert unknown("good sound bad battery", 99) == Window("good sound bad battery", 2, [], None)
    assert unknown("good sound bad battery", 10) == Window("good sound", None, None, None)
    assert unknown("ääää", 3).text == "äää"
    assert unknown(None, 3) == Window(None, None, None, None)


def test_products_that_are_laid_a_few_at_a_time_have_the_same_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = pl.concat(
        grouped([Voted(f"{number:02d} {'w ' * number}end", 0, n, 5.0) for n in range(number)])
        for number in range(1, 12)
    )
    whole = windows(many, SummarySettings(max_chars=60)).collect()
    monkeypatch.setattr(review_window, "_PRODUCTS_AT_A_TIME", 3)
    assert windows(many, SummarySettings(max_chars=60)).collect().equals(whole)
