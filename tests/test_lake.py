from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from reviewsum_assets.errors import LakeError
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews.dumps import find_dumps
from reviewsum_assets.settings import load_settings


def test_what_was_put_is_read_back(any_lake: Lake) -> None:
    any_lake.put("folder/object", b"content")
    assert any_lake.get("folder/object") == b"content"


def test_an_object_that_is_not_there_is_none(any_lake: Lake) -> None:
    assert any_lake.get("nothing") is None
    assert any_lake.head("nothing") is None


def test_put_replaces(any_lake: Lake) -> None:
    any_lake.put("object", b"first, and longer")
    any_lake.put("object", b"second")
    assert any_lake.get("object") == b"second"


def test_create_refuses_an_existing_object(any_lake: Lake) -> None:
    assert any_lake.create("object", b"first")
    assert not any_lake.create("object", b"second")
    assert any_lake.get("object") == b"first"


def test_of_many_creators_exactly_one_wins(lake: Lake) -> None:
    wins: list[int] = []

    def create(number: int) -> None:
        if lake.create("object", str(number).encode()):
            wins.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert lake.get("object") == str(wins[0]).encode()


def test_delete_removes_and_bears_absence(any_lake: Lake) -> None:
    any_lake.put("object", b"")
    any_lake.delete("object")
    any_lake.delete("object")
    assert any_lake.get("object") is None


def test_files_go_up_and_come_down_whole(any_lake: Lake, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(bytes(range(256)) * 100_000)
    any_lake.put_file("object", source)
    any_lake.download("object", target)
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_listing_goes_beyond_one_response_of_s3(s3_lake: Lake) -> None:
    for number in range(1005):
        s3_lake.put(f"folder/{number:04d}", b"")
    s3_lake.put("folder_beside/object", b"")
    assert [item.key for item in s3_lake.list("folder")] == [
        f"folder/{number:04d}" for number in range(1005)
    ]


def test_a_listing_of_nothing_is_empty(any_lake: Lake) -> None:
    assert any_lake.list("folder") == []


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd", "", "a\\..\\b"])
def test_no_key_leaves_the_root(any_lake: Lake, key: str) -> None:
    with pytest.raises(LakeError, match="illegal place"):
        any_lake.put(key, b"")


def test_a_write_that_cannot_be_done_leaves_the_old_object_and_nothing_else(
    lake: Lake, tmp_path: Path
) -> None:
    lake.put("object", b"old")
    with pytest.raises(LakeError, match="cannot write"):
        lake.put_file("object", tmp_path / "does not exist")
    assert lake.get("object") == b"old"
    assert lake.directory is not None
    assert list((lake.directory / ".staging").iterdir()) == []


def test_an_object_stored_under_a_file_is_an_error_that_names_it(lake: Lake) -> None:
    lake.put("object", b"")
    with pytest.raises(LakeError, match="object/below"):
        lake.put("object/below", b"")


@pytest.mark.parametrize("uri", ["ftp://host/path", "s3://"])
def test_a_lake_of_unknown_kind_is_refused(uri: str) -> None:
    with pytest.raises(LakeError, match="lake"):
        Lake.open(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:hidden@bucket/prefix",
        "s3://bucket/prefix?X-Amz-Signature=hidden",
        "https://user:hidden@host/prefix?token=hidden",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(lake: Lake, uri: str) -> None:
    with pytest.raises(LakeError, match="with credentials or a query") as refused:
        Lake.open(uri)
    assert "hidden" not in str(refused.value)
    with pytest.raises(LakeError, match="with credentials or a query") as refused:
        find_dumps(lake, load_settings(dumps=(f"{uri}/dump.csv",)))
    assert "hidden" not in str(refused.value)


def test_an_object_is_read_as_a_stream(any_lake: Lake) -> None:
    any_lake.put("object", b"one\ntwo\n")
    with any_lake.open_reader("object") as file:
        assert bytes(file.read(4)) == b"one\n"


@pytest.mark.parametrize("write", ["put", "put_file", "create"])
def test_an_object_is_on_the_disk_before_it_has_its_name(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    (tmp_path / "content").write_bytes(b"content")
    fsync, flushed = os.fsync, []

    def noting(number: int) -> None:
        fsync(number)
        flushed.append((os.fstat(number).st_ino, lake.head("object")))

    monkeypatch.setattr(os, "fsync", noting)
    getattr(lake, write)("object", tmp_path / "content" if write == "put_file" else b"content")
    assert lake.directory is not None
    assert flushed == [((lake.directory / "object").stat().st_ino, None)]
