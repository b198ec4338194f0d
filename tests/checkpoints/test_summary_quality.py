from __future__ import annotations

import polars as pl
import pytest

from reviewsum_assets.checkpoints.quality import (
    Defect,
    has_number,
    unsupported_numbers,
    with_defects,
)
from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.settings import QualitySettings

GOOD = (
    "Most buyers like this speaker, above all the rich sound and the easy setup. The battery is "
    "the most common complaint."
)


def table(*texts: str | None, liked: str | None = None) -> pl.DataFrame:
    """These summaries as rows of the merged table; ``liked`` is the first side of each."""
    schema = {"abstracted_summary": pl.String, "liked": pl.String}
    return pl.DataFrame({"abstracted_summary": texts, "liked": [liked] * len(texts)}, schema)


def defects(text: str | None, *, liked: str | None = None, **settings: object) -> set[Defect]:
    """What is wrong with one summary."""
    judged = with_defects(table(text, liked=liked), QualitySettings.model_validate(settings))
    return {defect for defect in Defect if judged[defect.value][0]}


FINE = [
    GOOD,
    " ".join([GOOD] * 3),
    "Great sound, poor battery, nice colours!",
    "It's a solid keyboard; the keys don't stick and I'd buy it again!",
    'Buyers say it is "worth every penny."',
    "Works with every phone (even old ones).",
    "Is it worth the price? Most buyers think so…",
    "Rated 4.5 of 5 by most, it costs $25 and lasts 1,000 hours.",
    "Nearly everybody loves the sound! 👍🏽👍🏽",
    "The café owner's review says the naïve design is très chic, and it is.",
    "It is very, very good, and the sound of it is very good too for the price.",
    "Reviewers note that there were no reviews of the older model to compare it with.",
    "The <3 of the set is the lamp & it shines.",
]
CUT_OFF = [
    "Most buyers like this speaker, above all the rich",
    "Most buyers like this speaker, above all the rich,",
    "Most buyers like it. The most common complaint is that the",
    "Most buyers rate this speaker with 4.5",
]
LOOPS = [
    f"{'It is very good and ' * 8}it is.",
    f"{'The sound is great. ' * 6}",
    f"The {'the bass ' * 12}is deep.",
    f"{GOOD} {'It is a great product for the price that I would buy again. ' * 9}",
    f"{'Great sound, GREAT sound; ' * 5}that is it.",
]
MARKS = (
    *("<n>", "<unk>", "<pad>", "</s>", "<mask_1>", "<extra_id_0>", "[UNK]", "⁇", "www.example.com"),
    *("https://example.com/x", "<br />", '<a href="x">', "&quot;", "&#34;", "[[VIDEOID:ab12]]"),
    "No reviews available",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, set()) for text in FINE),
        *((text, {Defect.EMPTY}) for text in (None, "", "  \n\t ")),
        *((text, {Defect.TRUNCATED}) for text in CUT_OFF),
        *((text, {Defect.REPETITIVE}) for text in LOOPS),
        *(
            (f"The sound is good and {mark} the battery is poor.", {Defect.PLACEHOLDER})
            for mark in MARKS
        ),
    ],
)
def test_defects_are_found_alone(text: str | None, expected: set[Defect]) -> None:
    assert defects(text) == expected


@pytest.mark.parametrize(("liked", "is_cut_off"), [(GOOD, False), *((t, True) for t in CUT_OFF)])
def test_the_first_of_two_sides_may_break_off_before_the_end(liked: str, is_cut_off: bool) -> None:
    sides = Sides(liked, "The battery is weak.")
    assert (Defect.TRUNCATED in defects(sides.summary, liked=liked)) is is_cut_off


def test_loops_are_found_row_by_row() -> None:
    texts = ["It is.", "a b c. " * 4 + "End.", "", "a b", GOOD]
    judged = with_defects(table(*texts), QualitySettings())
    assert judged[Defect.REPETITIVE.value].to_list() == [False, True, False, False, False]


@pytest.mark.parametrize("text", ["No reviews", "nan", "None", "N/A", "No customer reviews yet."])
def test_a_text_that_stands_for_none_is_a_placeholder(text: str) -> None:
    assert Defect.PLACEHOLDER in defects(text)


@pytest.mark.parametrize(
    "text",
    [
        "Die meisten Käufer mögen diesen Lautsprecher, vor allem den vollen Klang und den Preis.",
        "A la mayoría de los compradores les gusta este altavoz, sobre todo el sonido y el precio.",
        "La plupart des acheteurs aiment cette enceinte, surtout le son riche et le prix modéré.",
        "Большинству покупателей нравится эта колонка, прежде всего звук.",
        "大多数买家喜欢这款音箱,尤其是音质。",
        "よい製品です。",
    ],
)
def test_other_languages_are_foreign_unless_any_will_do(text: str) -> None:
    assert Defect.FOREIGN in defects(text)
    assert Defect.FOREIGN not in defects(text, english_summaries=False)


@pytest.mark.parametrize(
    ("text", "is_odd"),
    [
        ("Very good.", True),
        ("Really good sound. Buy it.", False),
        ("5 of 5 stars!", True),
        (" ".join(f"The word{n} is number {n}." for n in range(3)), False),
        (" ".join(f"The word{n} is number {n}." for n in range(5)), True),
    ],
)
def test_lengths_are_held_against_their_bounds(text: str, is_odd: bool) -> None:
    found = defects(text, min_summary_words=5, max_summary_words=20)
    assert (Defect.LENGTH in found) is is_odd


def test_other_columns_stay() -> None:
    frame = table(GOOD, "Bad").with_columns(product_id=pl.Series(["P1", "P2"]))
    judged = with_defects(frame, QualitySettings())
    assert judged["product_id"].to_list() == ["P1", "P2"]
    assert judged["words"].to_list() == [21, 1]


def unsupported(summary: str, source: str | None) -> list[float]:
    """Numbers of a summary that its source does not name, in their order."""
    schema = {"summary": pl.String, "source": pl.String}
    frame = pl.DataFrame({"summary": [summary], "source": [source]}, schema)
    found = frame.select(unsupported_numbers(pl.col("summary"), pl.col("source"))).to_series()[0]
    return sorted(found)


@pytest.mark.parametrize(
    ("summary", "source"),
    [
        ("Rated 4.5 stars.", "I give it 4.5 stars"),
        ("Rated 4.50 stars.", "I give it 4.5 stars"),
        ("It lasts 1,000 hours.", "lasted 1000 hours"),
        ("It lasts 1000 hours.", "lasted 1,000 hours."),
        ("It costs $25.", "I paid 25 dollars"),
        ("It costs $25.00.", "I paid $25, well spent"),
        ("Half of it, .5, is left.", "0.5 is left"),
        ("Two of the buttons broke.", "2 buttons broke"),
        ("The 2 buttons broke.", "TWO buttons broke"),
        ("Twenty people like it.", "20 people"),
        ("The mp3 player works.", "an MP3 player"),
        ("It is 5x7 inches.", "a frame of 5 x 7 in"),
        ("Up to 50% off.", "50 % off"),
        ("No number, no claim.", "7 8 9"),
        ("This one is a good one.", "good"),
        ("Someone wrote of weight.", "good"),
    ],
)
def test_numbers_that_the_source_names_are_supported(summary: str, source: str) -> None:
    assert unsupported(summary, source) == []


@pytest.mark.parametrize(
    ("summary", "source", "missing"),
    [
        ("Rated 4.5 stars.", "I give it 4 or 5 stars", [4.5]),
        ("It lasts 1,000 hours.", "lasted 100 hours", [1000.0]),
        ("It costs $25.", "it costs 250", [25.0]),
        ("Two of the buttons broke after 3 days.", "a button broke", [2.0, 3.0]),
        ("Ten years.", "", [10.0]),
        ("It has 3.", None, [3.0]),
    ],
)
def test_numbers_that_it_does_not_name_are_listed(
    summary: str, source: str | None, missing: list[float]
) -> None:
    assert unsupported(summary, source) == missing


def test_whether_a_text_names_a_number() -> None:
    texts = pl.Series(["It has Two.", "It has 2.", "It has one.", "Often weighed."])
    assert pl.select(has_number(pl.lit(texts))).to_series().to_list() == [True, True, False, False]
