"""Fixtures that several folders of tests need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewsum_assets.lake import Lake
from tests.support.s3 import s3_endpoint


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("REVIEWSUM_", "AWS_", "DAGSTER_")):
            monkeypatch.delenv(name)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake in a directory."""
    return Lake.open(str(tmp_path / "lake"))


@pytest.fixture
def s3_lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """An empty lake on S3."""
    with s3_endpoint(monkeypatch) as uri:
        yield Lake.open(uri)


@pytest.fixture(params=["directory", "s3"])
def any_lake(request: pytest.FixtureRequest) -> Lake:
    """An empty lake, once of each kind."""
    found = request.getfixturevalue("lake" if request.param == "directory" else "s3_lake")
    assert isinstance(found, Lake)
    return found
