from __future__ import annotations

import polars as pl
import pytest

from reviewsum_assets.checkpoints.quality import (
    Defect,
    has_number,
    unsupported_numbers,
    with_defects,
)
from reviewsum_assets.settings import QualitySettings

GOOD = (
    "Most buyers like this speaker, above all the rich sound and the easy setup. The battery is "
    "the most common complaint."
)


def defects(text: str | None, **settings: object) -> set[Defect]:
    """What is wrong with one summary."""
    judged = with_defects(
        pl.DataFrame({"abstracted_summary": [text]}, schema={"abstracted_summary": pl.String}),
        QualitySettings.model_validate(settings),
    )
    return {defect for defect in Defect if judged[defect.value][0]}


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "Great sound, poor battery, fair price.",
        "It's a solid keyboard; the keys don't stick and I'd buy it again!",
        'Buyers say it is "worth every penny."',
        "Works with every phone (even old ones).",
        "Is it worth the price? Most buyers think so…",
        "Rated 4.5 of 5 by most, it costs $25 and lasts 1,000 hours.",
        "Nearly everybody loves the sound 😀",
        "Nearly everybody loves the sound! 👍🏽👍🏽",
        "The café owner's review says the naïve design is très chic, and it is.",
        "It is very, very good, and the sound of it is very good too for the price.",
        "Reviewers note that there were no reviews of the older model to compare it with.",
        "The <3 of the set is the lamp & it shines.",
    ],
)
def test_good_summaries_have_no_defect(text: str) -> None:
    assert defects(text) == set()


@pytest.mark.parametrize("text", [None, "", "  \n\t "])
def test_an_empty_summary_has_that_defect_only(text: str | None) -> None:
    assert defects(text) == {Defect.EMPTY}


@pytest.mark.parametrize(
    "text",
    [
        "Most buyers like this speaker, above all the rich",
        "Most buyers like this speaker, above all the rich,",
        "Most buyers like it. The most common complaint is that the",
        "Most buyers rate this speaker with 4.5",
    ],
)
def test_a_summary_that_breaks_off_is_truncated(text: str) -> None:
    assert defects(text) == {Defect.TRUNCATED}


@pytest.mark.parametrize(
    "text",
    [
        f"{'It is very good and ' * 8}it is.",
        f"{'The sound is great. ' * 6}",
        f"The {'the bass ' * 12}is deep.",
        f"{GOOD} {'It is a great product for the price that I would buy again. ' * 9}",
        f"{'Great sound, GREAT sound; ' * 5}that is it.",
    ],
)
def test_a_summary_caught_in_a_loop_is_repetitive(text: str) -> None:
    assert defects(text) == {Defect.REPETITIVE}


def test_chunks_that_say_the_same_are_no_loop() -> None:
    assert defects(" ".join([GOOD] * 3)) == set()


def test_loops_are_found_row_by_row() -> None:
    texts = ["It is.", "a b c. " * 4 + "End.", "", "a b", GOOD]
    judged = with_defects(pl.DataFrame({"abstracted_summary": texts}), QualitySettings())
    assert judged[Defect.REPETITIVE.value].to_list() == [False, True, False, False, False]


@pytest.mark.parametrize(
    "placeholder",
    [
        "<n>",
        "<unk>",
        "<pad>",
        "</s>",
        "<mask_1>",
        "<extra_id_0>",
        "[UNK]",
        "⁇",
        "https://example.com/x",
        "www.example.com",
        "<br />",
        '<a href="x">',
        "&quot;",
        "&#34;",
        "[[VIDEOID:ab12]]",
        "No reviews available",
    ],
)
def test_placeholders_markup_and_links_are_found(placeholder: str) -> None:
    assert defects(f"The sound is good and {placeholder} the battery is poor.") == {
        Defect.PLACEHOLDER
    }


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


def test_a_short_english_text_needs_no_common_word() -> None:
    assert defects("Great sound, poor battery, nice colours!") == set()


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
    frame = pl.DataFrame({"product_id": ["P1", "P2"], "abstracted_summary": [GOOD, "Bad"]})
    judged = with_defects(frame, QualitySettings())
    assert judged["product_id"].to_list() == ["P1", "P2"]
    assert judged["words"].to_list() == [21, 1]


def unsupported(summary: str, source: str) -> list[float]:
    """Numbers of a summary that its source does not name, in their order."""
    frame = pl.DataFrame({"summary": [summary], "source": [source]})
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
    ],
)
def test_numbers_that_it_does_not_name_are_listed(
    summary: str, source: str, missing: list[float]
) -> None:
    assert unsupported(summary, source) == missing


def test_a_missing_source_supports_no_number() -> None:
    frame = pl.DataFrame(
        {"summary": ["It has 3."], "source": [None]},
        schema={"summary": pl.String, "source": pl.String},
    )
    found = frame.select(unsupported_numbers(pl.col("summary"), pl.col("source"))).to_series()[0]
    assert found.to_list() == [3.0]


def test_whether_a_text_names_a_number() -> None:
    texts = pl.DataFrame({"text": ["It has Two.", "It has 2.", "It has one.", "Often weighed."]})
    assert texts.select(has_number(pl.col("text"))).to_series().to_list() == [
        True,
        True,
        False,
        False,
    ]
