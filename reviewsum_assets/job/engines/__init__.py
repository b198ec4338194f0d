"""Engines turn batches of token ids into batches of summary token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from reviewsum_assets.job.engines.base import Engine
from reviewsum_assets.settings import SummarySettings

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
    """Load a directory into the engine of this name; imports only that engine.

    ``directory`` holds a ready model for transformers, its conversion for CTranslate2.
    """
    match name:
        case "ctranslate2":
            from reviewsum_assets.job.engines.ctranslate2_engine import CTranslate2Engine

            return CTranslate2Engine.load(
                directory, settings, device=device, dtype=dtype, threads=threads
            )
        case "transformers":
            from reviewsum_assets.job.engines.transformers_engine import TransformersEngine

            return TransformersEngine.load(
                directory, settings, device=device, dtype=dtype, threads=threads
            )
