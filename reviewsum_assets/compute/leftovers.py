"""Objects on a lake that nothing uses, left by killed processes, ended jobs and older code.

A folder is as old as the newest object in it, by the clock of its store. Processes that use a
folder again rewrite at least a part of it.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from reviewsum_assets.compute.job_package import JobWheels, build_package
from reviewsum_assets.job.models.files import model_cache
from reviewsum_assets.reviews.grouped import current_grouped_reviews
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import STAGING, Lake, LakeObject

# The longest pause of a process between its first write and the write that commits it.
_LONGEST_PAUSE = timedelta(hours=1)
_PYTHONS = [f"3.{minor}" for minor in range(9, 16)]
_WHEELS = f"{places.JOB_CODE}/wheels/"

Kinds = dict[str, tuple[LakeObject, ...]]


def leftovers(lake: Lake, older_than: timedelta) -> Kinds:
    """Return the old, unused objects of a lake by kind; call it while no job runs.

    Objects of the last hour are kept in any case.

    Raises:
        LakeError: The lake cannot be listed or written.
    """
    before = lake.now() - max(older_than, _LONGEST_PAUSE)
    job_code = lake.list(places.JOB_CODE)
    # The current code, and its packages for any image; building them takes a second.
    packages = [build_package(cuda=cuda) for cuda in ("12", "13")] if job_code else []
    packages += [build_package(installs=False)] if job_code else []
    wheels = {JobWheels(package.requirements, p).prefix for package in packages for p in _PYTHONS}
    stored = [item for item in job_code if item.key.startswith(_WHEELS)]
    published = [item for item in job_code if not item.key.startswith(_WHEELS)]
    kinds = {
        "staging": _unused(lake.list(STAGING), before, 2),
        "jobs": _unused(lake.list(places.PROCESSING_JOBS), before, 2),
        "code": _unused(published, before, 2, [package.prefix for package in packages]),
        "wheels": _unused(stored, before, 3, wheels),
    }
    record = current_grouped_reviews(lake)
    if record is not None:  # else the tables in use are not known
        used = {key.rpartition("/")[0] for key in (*record.tables, record.too_few) if key}
        tables = lake.list(f"{places.GROUPED_REVIEWS}/tables")
        kinds["tables"] = _unused(tables, before, 3, used)
        kept = {record.quarantine_key or ""}
        kinds["quarantine"] = _unused(lake.list(places.QUARANTINE), before, 2, kept)
    return kinds


def unused_model_copies(older_than: timedelta, models: Collection[str]) -> tuple[Lake, Kinds]:
    """Return the place of model copies on this machine, and the old copies of other ``models``.

    Raises:
        LakeError: They cannot be listed.
    """
    place = model_cache()
    cache = Lake.open(str(place.parent))
    used = tuple(f"{place.name}/{model}." for model in models)
    copies = (item for item in cache.list(place.name) if not item.key.startswith(used))
    before = cache.now() - max(older_than, _LONGEST_PAUSE)
    return cache, {"model copies": _unused(copies, before, 2)}


def remove(lake: Lake, kinds: Kinds) -> None:
    """Remove these objects, and the folders that are then empty.

    Raises:
        LakeError: An object cannot be removed.
    """
    for item in (item for items in kinds.values() for item in items):
        lake.delete(item.key)
        if lake.directory is not None:
            folder = (lake.directory / item.key).parent
            with contextlib.suppress(OSError):  # not empty
                while folder.parent != lake.directory:
                    folder.rmdir()
                    folder = folder.parent


def _unused(
    items: Iterable[LakeObject], before: datetime, depth: int, used: Collection[str] = ()
) -> tuple[LakeObject, ...]:
    """Return the objects of old, unused folders; ``depth`` parts of a key are its folder."""
    folders: dict[str, list[LakeObject]] = defaultdict(list)
    for item in items:
        folders["/".join(item.key.split("/")[:depth])].append(item)
    return tuple(
        item
        for folder, found in folders.items()
        if folder not in used and max(one.last_modified for one in found) <= before
        for item in found
    )
