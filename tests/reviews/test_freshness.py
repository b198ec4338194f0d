from __future__ import annotations

import os
from pathlib import Path

import pytest

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.freshness import stale_dumps
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import Settings, load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import texts, write_dump


@pytest.fixture
def folder(lake: Lake) -> Path:
    """The lake's folder of dumps, with one that is grouped."""
    assert lake.directory is not None
    folder = lake.directory / "review_dumps"
    write_dump(folder / "a.csv", texts(3))
    group_reviews(lake, settings())
    return folder


def settings(**changes: object) -> Settings:
    return load_settings(**changes)


def test_before_grouping_everything_is_to_be_done(lake: Lake) -> None:
    assert stale_dumps(lake, settings()) == [("all", "nothing has been grouped yet")]


def test_what_is_grouped_as_it_lies_there_is_fresh(lake: Lake, folder: Path) -> None:
    assert stale_dumps(lake, settings()) == []


def test_a_new_dump_is_named(lake: Lake, folder: Path) -> None:
    write_dump(folder / "b.csv", texts(2))
    assert stale_dumps(lake, settings()) == [("review_dumps/b.csv", "not grouped yet")]


def test_a_dump_of_another_size_is_named_with_both(lake: Lake, folder: Path) -> None:
    before = (folder / "a.csv").stat().st_size
    after = write_dump(folder / "a.csv", texts(4)).stat().st_size
    assert stale_dumps(lake, settings()) == [
        ("review_dumps/a.csv", f"{before:,} bytes were grouped, now it has {after:,}")
    ]


def test_a_dump_written_again_with_the_same_size_is_named(lake: Lake, folder: Path) -> None:
    path = folder / "a.csv"
    path.write_text(path.read_text().replace("good", "GOOD"))
    # Earlier than the grouping: a copy that keeps its time, or from a host with another clock.
    os.utime(path, (1e9, 1e9))
    ((name, change),) = stale_dumps(lake, settings())
    assert name == "review_dumps/a.csv"
    assert change == "changed 2001-09-09 01:46 UTC"


def test_a_dump_that_is_gone_is_named(lake: Lake, folder: Path) -> None:
    (folder / "a.csv").rename(folder / "b.csv")
    assert stale_dumps(lake, settings()) == [
        ("review_dumps/b.csv", "not grouped yet"),
        ("review_dumps/a.csv", "was grouped and is gone"),
    ]


def test_other_settings_of_reading_make_it_stale_too(lake: Lake, folder: Path) -> None:
    ((name, change),) = stale_dumps(lake, settings(min_reviews=7))
    assert name == "all"
    assert "settings" in change


def test_a_named_dump_that_is_missing_is_an_error(lake: Lake, folder: Path) -> None:
    with pytest.raises(DumpError, match="does not exist"):
        stale_dumps(lake, settings(dumps=("nowhere.csv",)))
