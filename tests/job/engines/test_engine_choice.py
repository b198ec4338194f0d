from __future__ import annotations

import pytest

from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.engines import choose_engine
from reviewsum_assets.settings import EngineSettings, SummarySettings

PLAIN = SummarySettings()


def test_a_converted_model_takes_the_faster_engine() -> None:
    choice = choose_engine(EngineSettings(), PLAIN, "")
    assert (choice.name, choice.reason) == ("ctranslate2", "")


def test_a_model_that_does_not_convert_takes_transformers_and_says_why() -> None:
    choice = choose_engine(EngineSettings(), PLAIN, "no such layer")
    assert (choice.name, choice.reason) == ("transformers", "no such layer")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"renormalize_logits": False}, "renormalize_logits is false"),
        ({"early_stopping": False}, "early_stopping is false"),
    ],
)
def test_settings_that_only_transformers_can_follow_choose_it(
    changes: dict[str, bool], named: str
) -> None:
    settings = PLAIN.model_copy(update=changes)
    choice = choose_engine(EngineSettings(), settings, "")
    assert choice.name == "transformers"
    assert named in choice.reason
    with pytest.raises(SettingsError, match=named):
        choose_engine(EngineSettings(engine="ctranslate2"), settings, "")


def test_what_makes_no_difference_does_not_choose() -> None:
    settings = SummarySettings(
        num_beams=1, early_stopping=False, min_length=0, renormalize_logits=False
    )
    assert choose_engine(EngineSettings(), settings, "").name == "ctranslate2"


def test_an_engine_that_is_asked_for_is_not_replaced_in_silence() -> None:
    assert choose_engine(EngineSettings(engine="transformers"), PLAIN, "").name == "transformers"
    with pytest.raises(SettingsError, match="no such layer; set engine to auto"):
        choose_engine(EngineSettings(engine="ctranslate2"), PLAIN, "no such layer")


def test_int8_needs_the_faster_engine() -> None:
    assert choose_engine(EngineSettings(dtype="int8"), PLAIN, "").name == "ctranslate2"
    with pytest.raises(SettingsError, match="dtype int8 needs engine ctranslate2"):
        choose_engine(EngineSettings(dtype="int8", engine="transformers"), PLAIN, "")
