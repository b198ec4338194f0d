"""S3 that fails now and then, breaks off, falls silent, or refuses for good; over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from reviewsum_assets.errors import LakeError
from reviewsum_assets.storage import places
from reviewsum_assets.storage import stores as module
from reviewsum_assets.storage.lake import Lake
from tests.support.crashes import WarmCommand, WarmProcess
from tests.support.processing import Faults, ProcessingEmulator
from tests.support.sagemaker import lake_on
from tests.support.worlds import World, build_world

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def lake(processing: ProcessingEmulator) -> Lake:
    """A lake with an object of a megabyte."""
    lake = lake_on(processing)
    lake.put("object", CONTENT)
    return lake


@pytest.mark.parametrize("status", [500, 503])
def test_an_error_that_passes_is_not_noticed(
    lake: Lake, processing: ProcessingEmulator, status: int
) -> None:
    for method in ("PUT", "GET", "HEAD", "POST", "DELETE"):
        processing.faults.s3_errors(status, 2, method)
    lake.put("object", CONTENT)
    assert lake.create("new", b"x")
    assert lake.get("object") == CONTENT
    assert lake.head("object")
    assert [item.key for item in lake.list("folder")] == []
    lake.delete("object")
    assert lake.get("object") is None


def test_a_read_that_breaks_off_is_completed(
    lake: Lake, processing: ProcessingEmulator, tmp_path: Path
) -> None:
    processing.faults.cut_reads(2, "object")
    assert lake.get("object") == CONTENT
    processing.faults.cut_reads(2, "object")
    lake.download("object", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    processing.faults.cut_reads(2, "object")
    with lake.open_reader("object") as file:
        assert file.read(len(CONTENT)) == CONTENT


def test_a_request_that_nobody_answers_is_sent_again(
    processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE", timedelta(seconds=0.5))
    lake = lake_on(processing)
    lake.put("object", CONTENT)
    processing.faults.silence(3, 1, "GET", "object")
    assert lake.get("object") == CONTENT
    processing.faults.silence(3, 1, "PUT", "object")
    lake.put("object", b"new")
    assert lake.get("object") == b"new"


def test_a_create_whose_answer_is_lost_says_that_the_object_is_there(
    lake: Lake, processing: ProcessingEmulator
) -> None:
    processing.faults.lose_response("PUT")
    # Whether by this call or by another planner's: whoever lost asks what is there.
    assert not lake.create("plan", b"mine")
    assert lake.get("plan") == b"mine"


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda lake: lake.put("object", b"new"), "cannot write"),
        (lambda lake: lake.put_file("object", Path(__file__)), "cannot write"),
        (lambda lake: lake.create("new", b"new"), "cannot write"),
    ],
    ids=["put", "put_file", "create"],
)
def test_a_refusal_for_good_is_an_error_that_names_the_object_and_changes_nothing(
    lake: Lake, processing: ProcessingEmulator, act: Callable[[Lake], object], what: str
) -> None:
    processing.faults.failed_puts("")
    with pytest.raises(LakeError, match=rf"{what} s3://.*: .*Access Denied") as raised:
        act(lake)
    assert "\n" not in str(raised.value)
    assert lake.get("object") == CONTENT
    assert lake.get("new") is None


def test_a_run_names_an_s3_that_refuses_and_is_not_stopped_by_one_that_fails_now_and_then(
    processing: ProcessingEmulator,
    warm: WarmProcess,
    pegasus: Path,
    finished: World,
    tmp_path: Path,
) -> None:
    world = s3_world(processing, warm, pegasus, tmp_path)
    for key in ("current.json", "plan_000001.json", "checkpoint_file_1.json"):
        processing.faults.failed_puts(key)
        ended = world.run()
        assert ended.code == 1
        assert "Traceback" not in ended.err
        assert key in ended.err and "Access Denied" in ended.err, ended.err
        processing.faults.clear()
        assert world.lake.get(written_at(key)) is None
    world.lake.delete(written_at("current.json"))
    make_trouble(processing.faults)
    ended = world.run()
    assert ended.code == 0, ended.err
    assert {call.status for call in processing.calls if call.service == "s3"} >= {200, 500, 503}
    assert world.verify() == ["no problem found"]
    assert world.merged == finished.merged


def written_at(name: str) -> str:
    folders = {
        "current.json": places.GROUPED_REVIEWS,
        "plan_000001.json": places.PLANS,
        "checkpoint_file_1.json": places.CHECKPOINT_MANIFESTS,
    }
    return f"{folders[name]}/{name}"


def s3_world(processing: ProcessingEmulator, warm: WarmProcess, model: Path, folder: Path) -> World:
    world = build_world(folder / "world", warm, model, lake_on(processing).uri)
    # A local job of an S3 lake lies in the temporary directory, by the lake's name, and this lake's
    # is the same in every session.
    scratch = folder / "scratch"
    scratch.mkdir()
    environment = {
        **world.command.environment,
        **processing.environment(),
        "TMPDIR": str(scratch),
    }
    command = WarmCommand(warm, world.command.folder, environment)
    return World(command, world.dump, model, world.lake)


def make_trouble(faults: Faults) -> None:
    """Let the next requests of each kind fail, and the next answers get lost."""
    for folder in ("grouped_reviews", "checkpoint_", "processing_jobs", "summarized_dataset"):
        faults.s3_errors(500, 1, "PUT", folder)
        faults.s3_errors(503, 2, "PUT", folder)
        faults.s3_errors(503, 2, "GET", folder)
        faults.s3_errors(500, 1, "HEAD", folder)
        faults.cut_reads(2, folder)
    faults.lose_response("PUT", 3)
