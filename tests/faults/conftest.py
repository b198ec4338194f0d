"""What the faults happen to: the console script, and a lake that a run has finished."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewsum_assets.storage.lake import Lake
from tests.support.crashes import WarmCommand, WarmProcess
from tests.support.worlds import SETTINGS, World, build_world


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmProcess]:
    """The process that all calls of the console script are forked from."""
    with WarmProcess.started() as process:
        yield process


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, warm: WarmProcess, pegasus: Path) -> World:
    """A world that a run has finished; not to be changed."""
    world = build_world(tmp_path_factory.mktemp("finished"), warm, pegasus)
    ended = world.run()
    assert ended.code == 0, ended.err
    return world


@pytest.fixture
def world(tmp_path: Path, finished: World, warm: WarmProcess, pegasus: Path) -> World:
    """A copy of the finished world, to which anything may happen."""
    # The same place for the dump: where a dump lies is part of what was read.
    folder = tmp_path / "world"
    shutil.copytree(finished.command.folder, folder)
    command = WarmCommand(warm, folder, {**SETTINGS, "REVIEWSUM_LAKE": str(folder / "lake")})
    return World(command, finished.dump, pegasus, Lake.open(str(folder / "lake")))
