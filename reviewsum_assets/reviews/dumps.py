"""Finds the dumps: files of raw reviews on the lake or named by the user."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import IO

from reviewsum_assets.demo import SAMPLE_DUMP, SAMPLE_DUMP_NAME
from reviewsum_assets.errors import DumpError, first_names
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake, LakeObject, refuse_credentials


@dataclass(frozen=True)
class Dump:
    """One file of raw reviews, as it was listed. The name is unique within a listing."""

    name: str
    lake: Lake
    listed: LakeObject

    @property
    def key(self) -> str:
        """Its place on its lake."""
        return self.listed.key

    @property
    def size(self) -> int:
        """In bytes."""
        return self.listed.size

    @property
    def e_tag(self) -> str:
        """Another one means another content."""
        return self.listed.e_tag or self.last_modified.isoformat()

    @property
    def last_modified(self) -> datetime:
        """In UTC."""
        return self.listed.last_modified.astimezone(timezone.utc)

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Read the file's bytes as they are.

        Raises:
            LakeError: on leaving too, it is no more the file that was listed.
        """
        return self.lake.reading(self.listed)


def find_dumps(lake: Lake, settings: Settings) -> list[Dump]:
    """The dumps to read, sorted by name.

    Those that ``settings.dumps`` names, else all under the lake's ``review_dumps/``, else the
    grouped CSV of the replaced script.

    Raises:
        DumpError: there are none, a named one does not exist, or one on the lake is a link out of
            it.
    """
    if settings.dumps:
        return sorted((_named_dump(name) for name in settings.dumps), key=lambda dump: dump.name)
    found = _on_the_lake(lake)
    if not found:
        raise DumpError(
            f"no reviews to read: put dumps under {lake.uri_of(places.REVIEW_DUMPS)}/, or a "
            f"grouped CSV at {lake.uri_of(places.GROUPED_CSV)}, or name files in the setting dumps "
            "(--dump)"
        )
    return [Dump(item.key, lake, item) for item in found]


def has_dumps(lake: Lake) -> bool:
    """Whether the lake holds any dump, or the grouped CSV."""
    return bool(_on_the_lake(lake))


def put_sample(lake: Lake, settings: Settings) -> bool:
    """Put the sample dump on a lake that holds nothing yet; whether that was so.

    A lake whose record of reviews is lost still has a plan or checkpoints: its dumps have to be
    named again, and no sample takes their place.
    """
    made_of_reviews = (places.GROUPED_REVIEWS, places.PLANS, places.CHECKPOINT_MANIFESTS)
    if settings.dumps or has_dumps(lake) or any(map(lake.list, made_of_reviews)):
        return False
    lake.put_file(f"{places.REVIEW_DUMPS}/{SAMPLE_DUMP_NAME}", SAMPLE_DUMP)
    return True


def require_same(before: Sequence[Dump], after: Sequence[Dump]) -> None:
    """Prove that two listings are of the same files.

    Raises:
        DumpError: they are not; names those that came, changed or went.
    """
    was, is_now = ({dump.name: dump.listed for dump in dumps} for dumps in (before, after))
    others = [name for name in is_now if name not in was]
    others += [n for n in was if n not in is_now or not is_now[n].is_version_of(was[n])]
    if others:
        raise DumpError(
            f"dumps came, changed or went while they were read: {first_names(sorted(others))}. "
            "Grouped reviews stay as they were: run it again once all uploads are complete"
        )


def listing_fingerprint(dumps: Sequence[Dump]) -> str:
    """Hash of names, sizes and tags: it changes when any dump does."""
    listing = sorted((dump.name, dump.size, dump.e_tag) for dump in dumps)
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _on_the_lake(lake: Lake) -> list[LakeObject]:
    _require_plain_files(lake)
    found = [item for item in lake.list(places.REVIEW_DUMPS) if _is_dump(item.key)]
    grouped = lake.head(places.GROUPED_CSV)
    return [grouped] if not found and grouped is not None else found


def _require_plain_files(lake: Lake) -> None:
    """Refuse what is no file of the folder itself.

    Raises:
        DumpError: a link leads nowhere, or out of the folder: who may add dumps could have any file
            read and quoted; or something is a pipe or the like, which reading would wait for.
    """
    if lake.directory is None:
        return
    folder = lake.directory / places.REVIEW_DUMPS
    for path in folder.rglob("*"):
        if not _is_dump(path.name):
            continue
        if not path.is_file() and not path.is_dir():
            raise DumpError(
                f"dump {path} is no file (a link that leads nowhere, or a pipe): remove it"
            )
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DumpError(
                f"dump {path} is a link to {path.resolve()}, which lies elsewhere and is not read: "
                "put a copy in its place, or name the file with --dump"
            )


def _named_dump(name: str) -> Dump:
    refuse_credentials(name)
    try:
        path = name if "://" in name else str(Path(name).expanduser().absolute())
    except RuntimeError as error:  # ~somebody, who is not known here
        raise DumpError(f"dump {name} does not exist: {error}") from error
    folder, _, file = path.rpartition("/")
    if "://" not in name and not Path(folder, file).is_file():
        raise DumpError(f"dump {name} does not exist, or is not a file")
    place = Lake.open(folder or "/")
    found = place.head(file)
    if found is None:
        raise DumpError(f"dump {name} does not exist")
    return Dump(place.uri_of(file), place, found)


def _is_dump(key: str) -> bool:
    """Whether an object is meant to be read; S3 consoles leave empty objects for folders."""
    path = PurePosixPath(key)
    return not any(part.startswith((".", "_")) for part in path.parts)
