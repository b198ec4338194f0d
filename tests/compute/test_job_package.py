from __future__ import annotations

import io
import re
import zipfile
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reviewsum_assets.compute.job_package import build_package, publish
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

NOT_INSTALLED = {"torch", "transformers", "dagster", "numpy"}


def test_equal_code_gives_an_equal_package() -> None:
    assert build_package() == build_package()
    assert build_package().version == build_package().version


def test_the_archive_holds_the_code_and_no_data() -> None:
    archive = zipfile.ZipFile(io.BytesIO(build_package().files["reviewsum_assets.zip"]))
    names = archive.namelist()
    assert "reviewsum_assets/job/worker.py" in names
    assert all(name.endswith(".py") for name in names)


def test_every_requirement_is_pinned_and_none_is_the_images() -> None:
    lines = build_package().files["requirements.txt"].decode().splitlines()
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
    assert not NOT_INSTALLED & {line.split("==")[0] for line in lines}


def test_whatever_a_requirement_needs_is_pinned_too() -> None:
    lines = build_package().files["requirements.txt"].decode().splitlines()
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
