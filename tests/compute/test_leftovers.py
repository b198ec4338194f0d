from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewsum_assets.cli.app import app
from reviewsum_assets.compute.job_package import JobWheels, build_package, publish
from reviewsum_assets.compute.leftovers import leftovers, remove, unused_model_copies
from reviewsum_assets.job.models.directory import read_ready_model, ready_model
from reviewsum_assets.job.models.files import model_cache
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products, products
from tests.support.pipeline import texts, write_dump
from tests.support.ready_models import put_ready_model

DAY = timedelta(days=1)
PACKAGE = build_package()
WHEELS = JobWheels(PACKAGE.requirements, "3.12").prefix

# Objects that nothing uses, by kind; and those in use, however old they are.
UNUSED = {
    "staging": [".staging/5d41402abc4b2a76b9719d911017c592"],
    "jobs": [
        "processing_jobs/old/spec.json",
        "processing_jobs/old/job.log",
        "processing_jobs/old/messages/1.json",
        "processing_jobs/.5d41402abc4b/spec.json",
    ],
    "code": ["job_code/0123456789ab/run_processing.py"],
    "wheels": ["job_code/wheels/0123456789ab/wheels.txt", "job_code/wheels/0123456789ab/a.whl"],
    "tables": ["grouped_reviews/tables/killed/part_00.parquet"],
    "quarantine": ["quarantine/killed.jsonl"],
}
UNUSED_KEYS = {key for keys in UNUSED.values() for key in keys}
USED = [*(f"{PACKAGE.prefix}/{name}" for name in PACKAGE.files), f"{WHEELS}/wheels.txt"]


def grow_old(root: Path, keys: Iterable[str], age: timedelta = 3 * DAY) -> None:
    then = time.time() - age.total_seconds()
    for key in keys:
        os.utime(root / key, (then, then))


def root_of(lake: Lake) -> Path:
    assert lake.directory is not None
    return lake.directory


def everything(lake: Lake) -> set[str]:
    root = root_of(lake)
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def used_lake(lake: Lake) -> Lake:
    """A lake with a plan, grouped reviews, quarantined rows, and leftovers of every kind."""
    dump = write_dump(root_of(lake) / places.REVIEW_DUMPS / "a.csv", texts(3))
    with dump.open("a") as file:
        file.write("P999,a row whose count is no number,many\n")
    record, _ = group_reviews(lake, load_settings())
    assert record.quarantine_key is not None
    plan_products(lake, products(2))
    for key in [*USED, *UNUSED_KEYS]:
        lake.put(key, b"content")
    grow_old(root_of(lake), everything(lake))
    return lake


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of model copies of this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return model_cache()


def test_unused_objects_are_removed_with_their_folders_and_the_rest_stays(used_lake: Lake) -> None:
    before = everything(used_lake)
    found = leftovers(used_lake, DAY)
    named = {kind: sorted(item.key for item in items) for kind, items in found.items()}
    assert named == {kind: sorted(keys) for kind, keys in UNUSED.items()}
    remove(used_lake, found)
    assert before - everything(used_lake) == UNUSED_KEYS
    folders = {path.name for path in root_of(used_lake).rglob("*") if path.is_dir()}
    assert not folders & {"old", "messages", "killed", "0123456789ab"}
    assert sum(map(len, leftovers(used_lake, DAY).values())) == 0


def test_a_folder_with_a_young_object_stays_and_nothing_of_the_last_hour_goes(
    used_lake: Lake,
) -> None:
    young = [keys[0] for keys in UNUSED.values()]
    grow_old(root_of(used_lake), young, timedelta(hours=23))
    found = [item.key for items in leftovers(used_lake, DAY).values() for item in items]
    assert found == [UNUSED["jobs"][-1]]  # the only one in another folder
    grow_old(root_of(used_lake), everything(used_lake), timedelta(minutes=55))
    assert sum(map(len, leftovers(used_lake, timedelta(0)).values())) == 0


def test_without_a_record_of_the_tables_in_use_no_table_is_removed(used_lake: Lake) -> None:
    used_lake.put("grouped_reviews/current.json", b"torn")
    assert not {"tables", "quarantine"} & leftovers(used_lake, DAY).keys()


def test_code_and_packages_that_a_job_is_about_to_read_are_young(used_lake: Lake) -> None:
    for name, content in PACKAGE.files.items():
        used_lake.put(f"{PACKAGE.prefix}/{name}", content)
    used_lake.put(f"{WHEELS}/wheels.txt", b"")
    grow_old(root_of(used_lake), everything(used_lake))
    publish(used_lake, PACKAGE)
    assert JobWheels(PACKAGE.requirements, "3.12").ensure_stored(used_lake) == ""
    now = used_lake.now()
    for prefix in (PACKAGE.prefix, WHEELS):
        assert all(now - item.last_modified < DAY for item in used_lake.list(prefix))


def test_copies_of_models_that_no_job_has_loaded_are_removed(
    s3_lake: Lake, cache: Path, pegasus: Path
) -> None:
    put_ready_model(s3_lake, pegasus)
    ready, _ = ready_model(s3_lake, load_settings(model=str(pegasus)))
    version = ready.version
    copy = read_ready_model(s3_lake, version).local_copy(s3_lake, cache=cache)
    partial = cache / f".{copy.name}.0123"
    other = cache / "another.0123"
    for folder in (partial, other):
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    def unused(*models: str) -> set[str]:
        found, kinds = unused_model_copies(DAY, models)
        assert found.directory == cache.parent
        return {item.key.split("/")[1] for items in kinds.values() for item in items}

    assert unused() == set()
    root = cache.parent
    grow_old(root, [str(path) for path in cache.rglob("*") if path.is_file()])
    assert unused(version) == {partial.name, other.name}
    assert unused() == {partial.name, other.name, copy.name}
    assert read_ready_model(s3_lake, version).local_copy(s3_lake, cache=cache) == copy
    assert unused() == {partial.name, other.name}


def test_a_dry_run_lists_leftovers_with_sizes_and_prune_removes_them(
    used_lake: Lake, cache: Path
) -> None:
    stray = cache / "another.0123" / "config.json"
    stray.parent.mkdir(parents=True)
    stray.write_text("{}")
    grow_old(cache, [str(stray)])
    call = ["prune", "--lake", used_lake.uri, "--older-than", "24"]
    before = everything(used_lake)
    dry = CliRunner().invoke(app, [*call, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert everything(used_lake) == before and stray.exists()
    for key in (*UNUSED_KEYS, str(stray)):
        assert any(line.endswith(f" bytes  {key}") for line in dry.stdout.splitlines()), key
    assert "jobs: 4 objects, 0.0 MB" in dry.stdout
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert before - everything(used_lake) >= UNUSED_KEYS
    assert not stray.parent.exists()
