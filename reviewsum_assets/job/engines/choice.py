"""Which engine a job uses for a model: the faster one where it says the same."""

from __future__ import annotations

from dataclasses import dataclass

from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.engines import EngineName
from reviewsum_assets.settings import EngineSettings, SummarySettings


@dataclass(frozen=True)
class EngineChoice:
    """An engine; ``reason`` says what speaks against the faster one, if anything does."""

    name: EngineName
    reason: str = ""


def choose_engine(
    engine: EngineSettings, settings: SummarySettings, conversion_obstacle: str
) -> EngineChoice:
    """The engine for a model.

    Args:
        engine: what is asked for; ``auto`` leaves it to this function.
        settings: of the summaries.
        conversion_obstacle: why there is no conversion of the model; empty if there is one.

    Raises:
        SettingsError: what is asked for cannot be had; says why.
    """
    if engine.engine == "transformers":
        obstacle = "engine is set to transformers"
    else:
        obstacle = _obstacle(settings) or conversion_obstacle
        if not obstacle:
            return EngineChoice("ctranslate2")
    if engine.engine == "ctranslate2":
        raise SettingsError(f"engine ctranslate2 cannot be used: {obstacle}; set engine to auto")
    if engine.dtype == "int8":
        raise SettingsError(
            f"dtype int8 needs engine ctranslate2, which cannot be used: {obstacle}; set dtype to "
            "auto"
        )
    return EngineChoice("transformers", obstacle)


def _obstacle(settings: SummarySettings) -> str:
    """The setting that CTranslate2 cannot follow, if there is one."""
    if not settings.renormalize_logits and settings.min_length > 1:
        return "renormalize_logits is off, and CTranslate2 always renormalizes"
    if not settings.early_stopping and settings.num_beams > 1:
        return "early_stopping is off, and CTranslate2 always stops early"
    return ""
