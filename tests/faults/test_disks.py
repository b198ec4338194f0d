"""A disk that is full, and a lake that cannot be written to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewsum_assets.errors import LakeError
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.crashes import WarmCommand, WarmProcess
from tests.support.disks import OBEYS_MODES, SmallDisk, files_up_to, read_only
from tests.support.worlds import World, build_world

# The first is too small for the grouped table; the next fill up at the model, its conversion, ...
FIRST_BYTES, MORE_BYTES = 4096, 192 << 10
MOST_RUNS = 30


@pytest.mark.parametrize("write", ["put", "put_file"])
def test_a_write_that_the_system_breaks_off_leaves_the_old_object_and_nothing_else(
    lake: Lake, tmp_path: Path, write: str
) -> None:
    (tmp_path / "large").write_bytes(bytes(1 << 20))
    lake.put("object", b"old")
    with (
        files_up_to(4096),
        pytest.raises(LakeError, match=r"cannot write .*object: .*File too large"),
    ):
        if write == "put":
            lake.put("object", bytes(1 << 20))
        else:
            lake.put_file("object", tmp_path / "large")
    assert lake.get("object") == b"old"
    assert not list(Path(lake.uri, ".staging").iterdir())


def test_a_full_disk_is_named_and_the_next_run_with_more_room_goes_on(
    tmp_path: Path, warm: WarmProcess, pegasus: Path, finished: World
) -> None:
    (tmp_path / "lake").mkdir()
    disk = SmallDisk(tmp_path / "lake", FIRST_BYTES)
    with disk.mounted() as is_small:
        if not is_small:
            return  # nothing may be mounted here: only the lake's own writes are shown, above
        world = build_world(tmp_path, warm, pegasus)
        told = []
        for _ in range(MOST_RUNS):
            ended = world.run()
            if ended.code == 0:
                break
            told.append(ended.err)
            assert is_one_sentence_about(ended.err, "No space left on device")
            nothing_is_staged(world)
            disk.grow(MORE_BYTES)
        assert ended.code == 0, told
        assert len(told) > 3
        assert world.verify() == ["no problem found"]
        assert world.merged == finished.merged


@pytest.fixture(scope="module")
def obedient() -> Iterator[WarmProcess]:
    """The console script as a user whom file modes bind."""
    with WarmProcess.started(*OBEYS_MODES) as process:
        yield process


def test_a_lake_that_cannot_be_written_to_can_be_read_and_is_named(
    world: World, obedient: WarmProcess, finished: World
) -> None:
    command = WarmCommand(obedient, world.command.folder, world.command.environment)
    bound = World(command, world.dump, world.model, world.lake)
    lake = Path(world.lake.uri)
    with read_only(lake):
        assert bound.verify() == ["no problem found"]
        assert command("status").code == 0
        assert "Nothing to do" in bound.run().out
    world.lake.delete(places.checkpoint_manifest(2))
    with read_only(lake):
        before = set(lake.rglob("*"))
        ended = bound.run()
        assert ended.code == 1
        assert is_one_sentence_about(ended.err, "Permission denied")
        assert set(lake.rglob("*")) == before
    assert bound.run().code == 0
    assert bound.verify() == ["no problem found"]
    assert world.merged == finished.merged


def is_one_sentence_about(message: str, *faults: str) -> bool:
    """Whether one line says what could not be written where, and why; and no traceback."""
    lines = [line for line in message.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, message
    assert "Traceback" not in message
    assert "cannot" in lines[0], message
    return any(fault in lines[0] for fault in faults) or pytest.fail(message)


def nothing_is_staged(world: World) -> None:
    assert world.lake.directory is not None
    staging = world.lake.directory / ".staging"
    assert not staging.exists() or not list(staging.iterdir())
