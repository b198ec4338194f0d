"""Small real models, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.models import build_bart, build_pegasus, build_t5


@pytest.fixture(scope="session")
def pegasus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Pegasus in the hub's layout."""
    return build_pegasus(tmp_path_factory.mktemp("models") / "pegasus")


@pytest.fixture(scope="session")
def poisoned_pegasus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Pegasus that fails on texts with ``tests.support.models.POISON``."""
    return build_pegasus(tmp_path_factory.mktemp("models") / "poisoned", poison=True)


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small T5 in the hub's layout."""
    return build_t5(tmp_path_factory.mktemp("models") / "t5")


@pytest.fixture(scope="session")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BART in the hub's layout."""
    return build_bart(tmp_path_factory.mktemp("models") / "bart")
