"""Engines turn batches of token ids into batches of summary token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from reviewsum_assets.job.engines.base import Engine
from reviewsum_assets.settings import SummarySettings


def load_engine(
    name: Literal["transformers"],
    directory: Path,
    settings: SummarySettings,
    *,
    device: str,
    dtype: str,
    threads: int,
) -> Engine:
    """Load a model directory into the engine of this name; imports only that engine."""
    match name:
        case "transformers":
            from reviewsum_assets.job.engines.transformers_engine import TransformersEngine

            return TransformersEngine.load(
                directory, settings, device=device, dtype=dtype, threads=threads
            )
