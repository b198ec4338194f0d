from __future__ import annotations

import os
from pathlib import Path

import pytest

from reviewsum_assets.errors import DumpError, LakeError
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews.dumps import find_dumps
from reviewsum_assets.settings import load_settings
from tests.support.pipeline import texts, write_dump


@pytest.fixture
def folder(tmp_path: Path, lake: Lake) -> Path:
    """The folder of dumps: elsewhere, and linked to by the lake's owner."""
    assert lake.directory is not None
    folder = tmp_path / "dumps"
    write_dump(folder / "a.csv", texts(1))
    (lake.directory / "review_dumps").symlink_to(folder)
    return folder


def found(lake: Lake) -> list[str]:
    return [dump.key for dump in find_dumps(lake, load_settings())]


def test_a_linked_folder_and_links_within_it_are_read(lake: Lake, folder: Path) -> None:
    (folder / "b.csv").symlink_to(folder / "a.csv")
    assert found(lake) == ["review_dumps/a.csv", "review_dumps/b.csv"]


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_that_is_put_in_place_after_the_look_is_not_followed(
    lake: Lake, folder: Path, tmp_path: Path, swapped: str
) -> None:
    private = write_dump(tmp_path / "private" / "b.csv", texts(1))
    public = write_dump(folder / "sub" / "b.csv", texts(2))
    _, dump = find_dumps(lake, load_settings())
    target = public if swapped == "file" else public.parent
    target.rename(tmp_path / "away")
    target.symlink_to(private if swapped == "file" else private.parent)
    with pytest.raises(LakeError, match=rf"it is a link to {private}, outside of {folder}"):
        dump.open()


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_that_is_put_in_place_while_a_dump_is_opened_is_not_followed(
    lake: Lake, folder: Path, tmp_path: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = write_dump(tmp_path / "private" / "b.csv", texts(1))
    public = write_dump(folder / "sub" / "b.csv", texts(2))
    _, dump = find_dumps(lake, load_settings())
    target = public if swapped == "file" else public.parent

    def swap_when_resolved(path: str | Path) -> str:
        resolved = realpath(path)
        if resolved == str(public):
            target.rename(tmp_path / "away")
            target.symlink_to(private if swapped == "file" else private.parent)
        return resolved

    realpath = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", swap_when_resolved)
    with pytest.raises(LakeError, match=r"cannot read .*(symbolic links|Not a directory)"):
        dump.open()


def test_a_pipe_that_is_put_in_place_after_the_look_is_not_waited_for(
    lake: Lake, folder: Path
) -> None:
    (dump,) = find_dumps(lake, load_settings())
    (folder / "a.csv").unlink()
    os.mkfifo(folder / "a.csv")
    with pytest.raises(LakeError, match=r"a\.csv: it is not a regular file"):
        dump.open()


def test_a_link_to_a_file_or_folder_elsewhere_is_refused(
    lake: Lake, folder: Path, tmp_path: Path
) -> None:
    private = write_dump(tmp_path / "private" / "letters.csv", texts(1))
    for target in (private, private.parent):
        (folder / "link").symlink_to(target)
        with pytest.raises(DumpError, match=r"link is a link to .* elsewhere"):
            found(lake)
        (folder / "link").unlink()
