"""Fixtures that several folders of tests need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import hypothesis
import pytest

from reviewsum_assets.storage.lake import Lake
from tests.support.models import build_bart, build_pegasus, build_t5
from tests.support.processing import ProcessingEmulator, processing_emulator
from tests.support.s3 import s3_endpoint

# Databases and lakes wait for the disk at every commit, and a test proves nothing by waiting.
_MEMORY = Path("/dev/shm")
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# A test must not fail by chance where nobody changed anything; whoever looks for faults takes
# the other profile: pytest --hypothesis-profile thorough.
hypothesis.settings.register_profile(
    "usual",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("usual"), max_examples=5_000, derandomize=False
)
hypothesis.settings.load_profile("usual")

_NO_TELEMETRY = {"telemetry": {"enabled": False}}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("REVIEWSUM_", "AWS_", "DAGSTER_")):
            monkeypatch.delenv(name)
    # Tests plan few products, and others on the same lake, as they like.
    monkeypatch.setenv("REVIEWSUM_MAX_VANISHED_SHARE", "1")


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


@pytest.fixture(scope="session")
def new_dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster home without runs, to be copied: its tables take a second to create."""
    home = tmp_path_factory.mktemp("dagster_home")
    dg.DagsterInstance.local_temp(str(home), _NO_TELEMETRY).dispose()
    return home


@pytest.fixture
def instance(tmp_path: Path, new_dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """A real Dagster instance on files."""
    home = shutil.copytree(new_dagster_home, tmp_path / "dagster_home")
    with dg.DagsterInstance.local_temp(str(home), _NO_TELEMETRY) as instance:
        yield instance


@pytest.fixture
def processing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessingEmulator]:
    """SageMaker Processing with an empty bucket; the ``AWS_*`` variables point at it."""
    with processing_emulator(tmp_path / "processing") as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator


@pytest.fixture(scope="session")
def pegasus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Pegasus in the hub's layout."""
    return build_pegasus(tmp_path_factory.mktemp("models") / "pegasus")


@pytest.fixture(scope="session")
def poisoned_bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BART that fails on texts with ``tests.support.models.POISON``."""
    return build_bart(tmp_path_factory.mktemp("models") / "poisoned", poison=True)


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small T5 in the hub's layout."""
    return build_t5(tmp_path_factory.mktemp("models") / "t5")


@pytest.fixture(scope="session")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BART in the hub's layout."""
    return build_bart(tmp_path_factory.mktemp("models") / "bart")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is meant to run, something skipped is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
