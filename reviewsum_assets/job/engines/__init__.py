"""Engines turn batches of token ids into batches of summary token ids.

``base`` defines an engine. Each engine is a module that is imported only when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.engines.base import Engine
from reviewsum_assets.settings import EngineSettings, SummarySettings

EngineName = Literal["ctranslate2", "transformers"]


def load_engine(
    name: EngineName,
    directory: Path,
    settings: SummarySettings,
    *,
    device: str,
    dtype: str,
    threads: int,
) -> Engine:
    """Load a ready model (transformers) or a conversion (CTranslate2) on one device.

    ``device`` is ``cpu``, or ``cuda`` for the only GPU visible to this process. ``dtype`` ``auto``
    is bfloat16 on GPUs that support it, else float32: float16 can overflow in Pegasus' encoder.

    Raises:
        SettingsError: The device does not support the type.
        JobError: PyTorch cannot use the GPU; the CPU never replaces it.
    """
    load: Callable[..., Engine]
    if name == "ctranslate2":
        from reviewsum_assets.job.engines.ctranslate2_engine import CTranslate2Engine

        load = CTranslate2Engine
    else:
        from reviewsum_assets.job.engines.transformers_engine import TransformersEngine

        load = TransformersEngine
    return load(directory, settings, device=device, dtype=dtype, threads=threads)


class EngineChoice(NamedTuple):
    """An engine, and the reason why it is not the faster one; empty if it is."""

    name: EngineName
    reason: str = ""


def choose_engine(
    engine: EngineSettings, settings: SummarySettings, conversion_obstacle: str
) -> EngineChoice:
    """Choose CTranslate2 for a model if it gives the summaries of transformers.

    ``conversion_obstacle`` says why the model has no conversion; it is empty if there is one.

    Raises:
        SettingsError: The requested engine or type is not available.
    """
    obstacle = conversion_obstacle
    if engine.engine == "transformers":
        obstacle = "engine is set to transformers"
    elif not settings.renormalize_logits and settings.min_length > 1:
        obstacle = "renormalize_logits is false, and CTranslate2 always renormalizes"
    elif not settings.early_stopping and settings.num_beams > 1:
        obstacle = "early_stopping is false, and CTranslate2 always stops early"
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
