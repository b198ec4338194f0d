from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.checkpoints.plan import Recipe, words_of
from reviewsum_assets.settings import SummarySettings

SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
pieces = st.one_of(st.sampled_from([*SPACES, *SPACES[:6], " " * 5]), st.text(max_size=5))


@given(st.lists(pieces, max_size=30).map("".join))
def test_words_are_what_python_splits_a_text_into(text: str) -> None:
    assert words_of(text) == " ".join(text.split()).encode("utf-8", "surrogatepass")


def test_half_of_a_surrogate_pair_is_no_obstacle() -> None:
    assert words_of(" a\n\ud800\u00a0b") == b"a \xed\xa0\x80 b"


def recipe(**settings: object) -> Recipe:
    return Recipe(model_version="model-1", settings=SummarySettings.model_validate(settings))


def test_input_hashes_are_those_of_the_versions_before() -> None:
    # Whoever changes these figures has every user compute, and pay for, every summary again.
    text = "Good sound.\nBad  battery."
    assert recipe().key == "3a65b5acfc91"
    assert recipe().input_hash(text) == "1f25a216b544281fdf2841892d38e6a5"
    changed = recipe(max_chars=100, num_beams=4)
    assert changed.key == "12c8cdce6eb7"
    assert changed.input_hash(text) == "28fa2d2eb55ee0bcd5ba165ec68423a7"
    hierarchical = recipe(strategy="hierarchical")
    assert hierarchical.key == "f59195262b32"
    assert hierarchical.input_hash(text) == "665ead1f9591da5c846b106d9a98454e"
    two_sided = recipe(strategy="two_sided")
    assert two_sided.key == "54585fe23130"
    assert (
        two_sided.input_hash("Good sound.\n\nBad  battery.") == "d5ccba27e6752fe1039ce56835490495"
    )


def test_a_recipe_is_known_by_what_its_strategy_looks_at() -> None:
    keys = {
        recipe(**some).key
        for some in (
            {},
            {"strategy": "hierarchical"},
            {"strategy": "hierarchical", "hierarchical_chars": 9},
            {"review_order": "representative"},
            {"strategy": "hierarchical", "review_order": "representative"},
            {"review_order": "consensus"},
            {"strategy": "two_sided"},
            {"strategy": "two_sided", "hierarchical_chars": 9},
        )
    }
    assert len(keys) == 8
    assert recipe(hierarchical_chars=9).key == recipe().key
    hierarchical = recipe(strategy="hierarchical")
    assert recipe(strategy="hierarchical", max_chars=9).key == hierarchical.key
    assert hierarchical.input_hash("x" * 5000) != hierarchical.input_hash("x" * 4000)
    assert recipe().input_hash("x" * 5000) == recipe().input_hash("x" * 4000)
    two_sided = recipe(strategy="two_sided")
    assert recipe(strategy="two_sided", max_chars=9).key == two_sided.key
    # The same words on other sides are another input.
    windows = ("good\nbad", "good\n\nbad", "\n\ngood\nbad")
    assert len({two_sided.input_hash(text) for text in windows}) == 3
    assert len({hierarchical.input_hash(text) for text in windows}) == 1
