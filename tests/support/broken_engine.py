"""CTranslate2 that fails as on a machine without cuBLAS, in every process started from now on."""

from __future__ import annotations

from pathlib import Path

import pytest

NO_CUBLAS = "Library libcublas.so.12 is not found or cannot be loaded"
_AT_START = f"""
import ctranslate2


def translate_batch(*_, **__):
    raise RuntimeError({NO_CUBLAS!r})


ctranslate2.Translator.translate_batch = translate_batch
"""


def break_ctranslate2(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Python processes load this at their start, from ``directory``."""
    directory.mkdir(parents=True)
    (directory / "sitecustomize.py").write_text(_AT_START)
    monkeypatch.setenv("PYTHONPATH", str(directory))
