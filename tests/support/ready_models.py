"""Makes a small model ready once for all tests: converting it takes longer than many a test."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed when the tests end


def put_ready_model(lake: Lake, model: Path) -> None:
    """Put on a lake what ``summarizer_model`` makes of a model directory."""
    source = _ready(model)
    for item in source.list(places.MODELS):
        lake.put(item.key, source.get(item.key) or b"")


@functools.cache
def _ready(model: Path) -> Lake:
    """A lake of its own on which the model is ready."""
    _kept.append(tempfile.TemporaryDirectory(prefix="reviewsum-ready-"))
    lake = Lake.open(_kept[-1].name)
    ready, _ = ready_model(lake, load_settings(lake=lake.uri, model=str(model)))
    ensure_converted(lake, ready)
    return lake
