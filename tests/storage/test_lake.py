from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import obstore
import polars as pl
import pytest

from reviewsum_assets.errors import LakeError
from reviewsum_assets.reviews.dumps import find_dumps
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake, LakeObject
from reviewsum_assets.storage.overlay import Overlay
from reviewsum_assets.storage.tables import as_parquet


def test_objects_are_put_read_created_listed_and_deleted(any_lake: Lake) -> None:
    assert (any_lake.get("folder/object"), any_lake.head("folder/object")) == (None, None)
    assert any_lake.list("folder") == []
    any_lake.put("folder/object", b"first, and longer")
    any_lake.put("folder/object", b"one\ntwo\n")
    assert not any_lake.create("folder/object", b"second")
    assert any_lake.get("folder/object") == b"one\ntwo\n"
    with any_lake.open_reader("folder/object") as file:
        assert bytes(file.read(4)) == b"one\n"
    with any_lake.reading(listed(any_lake, "folder/object")) as file:
        assert file.read() == b"one\ntwo\n"
    for _ in range(2):
        any_lake.delete("folder/object")
    assert any_lake.get("folder/object") is None
    assert any_lake.create("folder/object", b"second")


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


def test_files_go_up_and_come_down_whole(any_lake: Lake, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(bytes(range(256)) * 100_000)
    any_lake.put_file("object", source)
    any_lake.download("object", target)
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_listing_goes_beyond_one_response_of_s3(s3_lake: Lake) -> None:
    for number in range(1001):
        s3_lake.put(f"folder/{number:04d}", b"")
    s3_lake.put("folder_beside/object", b"")
    assert [item.key for item in s3_lake.list("folder")] == [
        f"folder/{number:04d}" for number in range(1001)
    ]


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
    with pytest.raises(LakeError, match="object/below"):
        lake.put("object/below", b"")
    assert lake.get("object") == b"old"
    assert lake.directory is not None
    assert list((lake.directory / ".staging").iterdir()) == []
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
    for use in (
        lambda: Lake.open(uri),
        lambda: find_dumps(lake, load_settings(dumps=(f"{uri}/dump.csv",))),
    ):
        with pytest.raises(LakeError, match="with credentials or a query") as refused:
            use()
        assert "hidden" not in str(refused.value)


def listed(lake: Lake, key: str) -> LakeObject:
    (found,) = lake.list(key.rpartition("/")[0])
    return found


@pytest.mark.parametrize("content", [b"shorter", b"other one", None])
def test_an_object_that_changes_while_it_is_read_is_an_error(
    any_lake: Lake, content: bytes | None
) -> None:
    any_lake.put("folder/object", b"as listed")
    happened = "was removed" if content is None else "changed or was replaced"
    with (
        pytest.raises(LakeError, match=f"folder/object {happened} while it was read: wait"),
        any_lake.reading(listed(any_lake, "folder/object")) as file,
    ):
        file.read(2)
        if content is None:
            any_lake.delete("folder/object")
        else:
            any_lake.put("folder/object", content)
        raise ValueError("what a reader makes of a mixture")


def test_an_object_that_comes_back_unchanged_was_not_the_one_that_was_read(lake: Lake) -> None:
    assert lake.directory is not None
    lake.put("folder/object", b"as listed")
    before, path = listed(lake, "folder/object"), lake.directory / "folder" / "object"
    path.rename(lake.directory / "aside")
    lake.put("folder/object", b"other one")
    with pytest.raises(LakeError, match="changed or was replaced"), lake.reading(before):
        path.unlink()
        (lake.directory / "aside").rename(path)


def test_of_an_object_of_s3_that_is_replaced_for_a_moment_nothing_is_read(s3_lake: Lake) -> None:
    s3_lake.put("folder/object", b"as listed")
    before = listed(s3_lake, "folder/object")
    s3_lake.put("folder/object", b"other one")
    with (
        pytest.raises(LakeError, match="changed or was replaced"),
        s3_lake.reading(before) as file,
    ):
        try:
            file.read()
        finally:
            s3_lake.put("folder/object", b"as listed")


def test_an_object_of_a_store_that_ignores_if_match_is_compared(
    s3_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_condition(*arguments: Any, options: Any, **others: Any) -> Any:
        return get(*arguments, options={"range": options["range"]}, **others)

    get = obstore.get
    monkeypatch.setattr(obstore, "get", without_condition)
    s3_lake.put("object", b"as opened")
    with s3_lake.open_reader("object") as file:
        s3_lake.put("object", b"other one")
        with pytest.raises(LakeError, match="changed or was replaced"):
            file.read()


def rows(*numbers: int) -> bytes:
    return as_parquet(pl.DataFrame({"number": numbers}))


def test_an_overlay_shows_what_was_written_and_leaves_the_lake(
    any_lake: Lake, tmp_path: Path
) -> None:
    for name in ("kept", "replaced", "removed"):
        any_lake.put(f"folder/{name}", rows(1))
    before = [any_lake.list("folder"), any_lake.get("folder/replaced")]
    overlay = Overlay(any_lake.uri, tmp_path / "scratch")
    (tmp_path / "file").write_bytes(rows(2, 3))
    overlay.put_file("folder/replaced", tmp_path / "file")
    overlay.delete("folder/removed")
    assert overlay.create("folder/new", b"new")
    assert not overlay.create("folder/kept", b"other")
    assert not overlay.create("folder/new", b"other")

    keys = [f"folder/{name}" for name in ("kept", "new", "replaced")]
    assert [item.key for item in overlay.list("folder")] == keys
    assert overlay.get_many([*keys, "folder/removed"]) == [rows(1), b"new", rows(2, 3), None]
    assert (overlay.head("folder/removed"), overlay.sha256("folder/removed")) == (None, None)
    assert overlay.sha256("folder/kept") == any_lake.sha256("folder/kept")
    with overlay.open_reader("folder/new") as file:
        assert file.read() == b"new"
    for item in overlay.list("folder"):
        with overlay.reading(item) as file:
            assert file.read() == overlay.get(item.key)
    overlay.download("folder/replaced", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == rows(2, 3)
    scan = overlay.scan_parquet("folder/kept", "folder/replaced")
    assert scan.collect()["number"].to_list() == [1, 2, 3]
    assert overlay.uri_of("folder/new") == any_lake.uri_of("folder/new")
    assert overlay.create("folder/removed", b"again")
    assert overlay.get("folder/removed") == b"again"
    assert [any_lake.list("folder"), any_lake.get("folder/replaced")] == before


def test_an_overlay_has_a_directory_only_of_objects_that_lie_together(
    lake: Lake, tmp_path: Path
) -> None:
    for key in ("beneath/a", "both/a", "cut/a", "cut/b"):
        lake.put(key, b"x")
    overlay = Overlay(lake.uri, tmp_path / "scratch")
    overlay.put("both/b", b"x")
    overlay.put("written/a", b"x")
    overlay.delete("cut/b")
    assert overlay.local_directory("beneath") == lake.local_directory("beneath")
    written = overlay.local_directory("written")
    assert written is not None and list(written.iterdir()) == [written / "a"]
    assert [overlay.local_directory(prefix) for prefix in ("both", "cut", "none")] == [None] * 3
    Overlay(str(tmp_path / "absent"), tmp_path / "other").put("object", b"written")
    assert not (tmp_path / "absent").exists()


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
