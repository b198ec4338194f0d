"""What processes that were killed, jobs that ended and older code have left on a lake.

Nothing of it is part of a result. A folder is as old as the newest object in it, by the clock of
its store. What is used again is written again, at least in part, so that it is young.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from reviewsum_assets.compute.job_package import JobWheels, build_package
from reviewsum_assets.job.models.files import model_cache
from reviewsum_assets.reviews.grouping import current_grouped_reviews
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import STAGING, Lake, LakeObject

# The longest pause of a process that writes what it commits last, or is about to create a job.
_LONGEST_PAUSE = timedelta(hours=1)
_PYTHONS = [f"3.{minor}" for minor in range(9, 16)]

_WHEELS = f"{places.JOB_CODE}/wheels"
_TABLES = f"{places.GROUPED_REVIEWS}/tables"

Kinds = dict[str, tuple[LakeObject, ...]]


def leftovers(lake: Lake, older_than: timedelta) -> Kinds:
    """Objects of a lake that nothing uses, by kind; to be called while no job runs.

    Args:
        lake: to be looked at.
        older_than: younger objects are not among them, nor any of the last hour.

    Raises:
        LakeError: something cannot be listed, or the lake cannot be written.
    """
    before = _before(lake, older_than)
    job_code = lake.list(places.JOB_CODE)
    code, wheels = _current_code() if job_code else (set(), set())
    kinds = {
        "staging": _unused(lake.list(STAGING), before, 2),
        "jobs": _unused(lake.list(places.PROCESSING_JOBS), before, 2),
        "code": _unused(
            (o for o in job_code if not o.key.startswith(f"{_WHEELS}/")),
            before,
            2,
            code,
        ),
        "wheels": _unused(
            (o for o in job_code if o.key.startswith(f"{_WHEELS}/")), before, 3, wheels
        ),
    }
    record = current_grouped_reviews(lake)
    if record is not None:  # else nothing tells what is in use
        tables = {*record.tables, record.too_few}
        used = {key.rpartition("/")[0] for key in tables if key}
        kinds["tables"] = _unused(lake.list(_TABLES), before, 3, used)
        kept = {record.quarantine_key or ""}
        kinds["quarantine"] = _unused(lake.list(places.QUARANTINE), before, 2, kept)
    return kinds


def unused_model_copies(older_than: timedelta, models: Collection[str]) -> tuple[Lake, Kinds]:
    """Copies of models on this machine that no job has loaded for so long, and where they lie.

    Args:
        older_than: copies that were loaded, or written, later are not among them.
        models: versions whose copies stay.

    Raises:
        LakeError: they cannot be listed.
    """
    place = model_cache()
    cache = Lake.open(str(place.parent))
    used = tuple(f"{place.name}/{model}." for model in models)
    copies = (item for item in cache.list(place.name) if not item.key.startswith(used))
    return cache, {"model copies": _unused(copies, _before(cache, older_than), 2)}


def remove(lake: Lake, kinds: Kinds) -> None:
    """Remove these objects, and what folders are empty then.

    Raises:
        LakeError: something cannot be removed.
    """
    for item in (item for items in kinds.values() for item in items):
        lake.delete(item.key)
        if lake.directory is not None:
            folder = (lake.directory / item.key).parent
            with contextlib.suppress(OSError):  # not empty
                while folder.parent != lake.directory:
                    folder.rmdir()
                    folder = folder.parent


def _before(lake: Lake, older_than: timedelta) -> datetime:
    return lake.now() - max(older_than, _LONGEST_PAUSE)


def _unused(
    items: Iterable[LakeObject], before: datetime, depth: int, used: Collection[str] = ()
) -> tuple[LakeObject, ...]:
    """The objects of old folders that are not used; the first parts of a key are its folder."""
    folders: dict[str, list[LakeObject]] = defaultdict(list)
    for item in items:
        folders["/".join(item.key.split("/")[:depth])].append(item)
    return tuple(
        item
        for folder, found in folders.items()
        if folder not in used and max(one.last_modified for one in found) <= before
        for item in found
    )


def _current_code() -> tuple[set[str], set[str]]:
    """Folders of this code, and of its packages, for any image."""
    packages = [build_package(installs=False), *(build_package(cuda=cuda) for cuda in ("12", "13"))]
    wheels = {JobWheels.of(package, python).prefix for package in packages for python in _PYTHONS}
    return {package.prefix for package in packages}, wheels
