from __future__ import annotations

from pathlib import Path

import pytest

from reviewsum_assets.errors import DumpError
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


def test_a_link_to_a_file_or_folder_elsewhere_is_refused(
    lake: Lake, folder: Path, tmp_path: Path
) -> None:
    private = write_dump(tmp_path / "private" / "letters.csv", texts(1))
    for target in (private, private.parent):
        (folder / "link").symlink_to(target)
        with pytest.raises(DumpError, match=r"link is a link to .* elsewhere"):
            found(lake)
        (folder / "link").unlink()
