from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reviewsum_assets.compute.job_package import (
    CUBLAS_12,
    WHEELS_FILE,
    JobWheels,
    build_package,
    publish,
    read_wheels,
)
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.bare_image import CLOSED_INDEX, bare_image
from tests.support.pipeline import failure_metadata
from tests.support.processing import ProcessingEmulator, processing_emulator
from tests.support.sagemaker import incomplete, planned_pipeline

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NOT_INSTALLED = {"torch", "transformers", "dagster", "numpy", "requests"}


def test_equal_code_gives_an_equal_package_without_data() -> None:
    package = build_package()
    assert package == build_package()
    names = zipfile.ZipFile(io.BytesIO(package.files["reviewsum_assets.zip"])).namelist()
    assert "reviewsum_assets/job/worker.py" in names
    assert all(name.endswith(".py") for name in names)
    assert CUBLAS_12 in build_package(cuda="13").requirements.decode()


def test_requirements_and_theirs_are_pinned_but_those_of_the_image() -> None:
    lines = build_package().requirements.decode().splitlines()
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
    assert not NOT_INSTALLED & {line.split("==")[0] for line in lines}
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines}
    for name in pinned:
        for needed in map(Requirement, requires(name) or []):
            is_extra = needed.marker is not None and "extra" in str(needed.marker)
            assert is_extra or canonicalize_name(needed.name) in pinned | NOT_INSTALLED, needed


def test_publishing_twice_leaves_the_same_files(lake: Lake) -> None:
    package = build_package()
    for _ in range(2):
        publish(lake, package)
        found = {item.key: lake.get(item.key) for item in lake.list(places.JOB_CODE)}
        assert found == {f"{package.prefix}/{name}": c for name, c in package.files.items()}
        assert len(found) == 3


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessingEmulator]:
    """SageMaker Processing whose containers lack the packages that a job needs."""
    python = bare_image(tmp_path / "image")
    with processing_emulator(tmp_path / "processing", python=python) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator


def test_a_job_without_a_package_index_installs_from_the_lake_and_refuses_a_changed_wheel(
    bare: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    offline: dict[str, Any] = {
        "package_source": "lake",
        "image_python": PYTHON,
        "job_environment": CLOSED_INDEX,
    }
    small = planned_pipeline(bare, instance, pegasus, tmp_path, **offline)
    # A job that uses the package index shows that it is closed.
    asking = small.with_settings(package_source="index").summarize(1, 2)
    assert "cannot be installed from a package index" in failure_metadata(asking)["reason"]

    run = small.summarize(1, 2)
    assert run.success, failure_metadata(run)
    assert incomplete(small.pipeline.lake) == []
    stored = [item for item in small.pipeline.lake.list(places.JOB_CODE) if "/wheels/" in item.key]
    listing = next(item.key for item in stored if item.key.endswith(WHEELS_FILE))
    names = [name for name, _ in read_wheels((small.pipeline.lake.get(listing) or b"").decode())]
    assert {item.key.rpartition("/")[2] for item in stored} == {WHEELS_FILE, *names}

    (wheel,) = (item.key for item in stored if "/typing_inspection-" in item.key)
    content = small.pipeline.lake.get(wheel) or b""
    small.pipeline.lake.put(wheel, content[:-1] + bytes([content[-1] ^ 1]))
    again = small.summarize(1, 2, chunk_summaries={"config": {"recompute": True}})
    reason = failure_metadata(again)["reason"]
    assert f"the wheel {wheel.rpartition('/')[2]} is not the one that was stored" in reason


def test_wheels_are_downloaded_once_for_equal_requirements_and_again_if_one_is_gone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = JobWheels(b"typing-inspection==0.4.2\n", PYTHON)
    assert small.ensure_stored(lake) == ""
    ((name, digest),) = read_wheels((lake.get(f"{small.prefix}/{WHEELS_FILE}") or b"").decode())
    wheel = f"{small.prefix}/{name}"
    assert lake.sha256(wheel) == digest
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/no/python")  # so that no second download can work
        assert small.ensure_stored(lake) == ""
        lake.delete(wheel)
        assert not small.are_stored(lake)
        assert small.ensure_stored(lake) != ""
    assert small.ensure_stored(lake) == ""
    assert lake.head(wheel) is not None
    nowhere = JobWheels(b"typing-inspection==99.0\n", PYTHON)
    assert "typing-inspection==99.0" in nowhere.ensure_stored(lake)
    assert lake.list(nowhere.prefix) == []
