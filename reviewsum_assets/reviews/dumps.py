"""Finds dumps: files of raw reviews on the lake or named by the settings."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote

from reviewsum_assets.demo import SAMPLE_DUMP, SAMPLE_DUMP_NAME
from reviewsum_assets.errors import DumpError, first_names
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake, LakeObject
from reviewsum_assets.storage.stores import refuse_credentials

# Errors of zipfile for damage, positions outside of the file, and features that it lacks.
UNREADABLE_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
)


@dataclass(frozen=True)
class Dump:
    """One file of raw reviews, as listed, or a member of such a zip archive.

    The name is unique within a listing.
    """

    name: str
    lake: Lake
    listed: LakeObject
    member: str = ""
    member_size: int = 0  # unpacked, in bytes

    @property
    def key(self) -> str:
        """Key on its lake."""
        return self.listed.key

    @property
    def label(self) -> str:
        """Name with that of the member, for people."""
        return f"{self.name}/{self.member}" if self.member else self.name

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.member_size if self.member else self.listed.size

    @property
    def partition(self) -> dict[str, str]:
        """Values in the names of its folders, as Hive and Spark write them: ``year=2019``."""
        pairs = (part.partition("=") for part in PurePosixPath(self.name).parts[:-1])
        return {
            unquote(key): unquote(value)
            for key, equals, value in pairs
            if key and equals and value != "__HIVE_DEFAULT_PARTITION__"
        }

    @property
    def e_tag(self) -> str:
        """Version tag: it changes with the content."""
        return self.listed.e_tag or self.last_modified.isoformat()

    @property
    def last_modified(self) -> datetime:
        """Time of the last change, in UTC."""
        return self.listed.last_modified.astimezone(UTC)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file, or the member of the archive, for reading its bytes.

        Raises:
            DumpError: the member is damaged where it begins.
            LakeError: on opening or closing, it is no longer the file that was listed.
        """
        with self.lake.reading(self.listed) as file:
            if not self.member:
                yield file
                return
            with ExitStack() as stack:
                try:
                    archive = stack.enter_context(zipfile.ZipFile(file))
                    member = stack.enter_context(archive.open(self.member))
                except UNREADABLE_ZIP as error:
                    raise DumpError(f"dump {self.label} is damaged: {error}") from error
                yield member


def find_dumps(lake: Lake, settings: Settings) -> list[Dump]:
    """Return the dumps to read, sorted by name.

    They are those in ``settings.dumps`` (a folder stands for all files below it), else all under
    the lake's ``review_dumps/``, else the grouped CSV of the predecessor.

    Raises:
        DumpError: there is no dump, a named one does not exist, or one on the lake is no file or a
            link out of its folder.
    """
    if settings.dumps:
        named = [dump for name in settings.dumps for dump in _named_dumps(name)]
        return sorted(named, key=lambda dump: dump.name)
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
    """Put the sample dump on an empty lake; returns whether the lake was empty.

    A lake that lost its record of reviews still has a plan or checkpoints, and gets no sample.
    """
    made_of_reviews = (places.GROUPED_REVIEWS, places.PLANS, places.CHECKPOINT_MANIFESTS)
    if settings.dumps or has_dumps(lake) or any(map(lake.list, made_of_reviews)):
        return False
    lake.put_file(f"{places.REVIEW_DUMPS}/{SAMPLE_DUMP_NAME}", SAMPLE_DUMP)
    return True


def require_same(before: Sequence[Dump], after: Sequence[Dump]) -> None:
    """Check that two listings contain the same versions of the same files.

    Raises:
        DumpError: some files were added, changed or removed.
    """
    was, is_now = ({dump.name: dump.listed for dump in dumps} for dumps in (before, after))
    others = set(is_now) - set(was)
    others |= {n for n in was if n not in is_now or not is_now[n].is_version_of(was[n])}
    if others:
        raise DumpError(
            f"dumps were added, changed or removed during reading: {first_names(sorted(others))}. "
            "Grouped reviews stay as they were. To fix: run it again once all uploads are complete"
        )


def listing_fingerprint(dumps: Sequence[Dump]) -> str:
    """Return a hash of names, sizes and tags, which changes with any dump."""
    listing = sorted((dump.name, dump.size, dump.e_tag) for dump in dumps)
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _on_the_lake(lake: Lake) -> list[LakeObject]:
    _require_plain_files(lake)
    found = [item for item in lake.list(places.REVIEW_DUMPS) if is_dump_name(item.key)]
    grouped = lake.head(places.GROUPED_CSV)
    return [grouped] if not found and grouped is not None else found


def _require_plain_files(lake: Lake) -> None:
    """Refuse links out of the folder of dumps, and anything but files.

    A link could have any file read and quoted for a person who may only add dumps, and reading a
    pipe would block.

    Raises:
        DumpError: there is such a link, a broken one, or a pipe.
    """
    if lake.directory is None:
        return
    folder = lake.directory / places.REVIEW_DUMPS
    for path in folder.rglob("*"):
        if not is_dump_name(path.name):
            continue
        if not path.is_file() and not path.is_dir():
            raise DumpError(f"dump {path} is no file (a broken link, or a pipe). To fix: remove it")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DumpError(
                f"dump {path} is a link to {path.resolve()}, outside of the folder, and is not "
                "read. To fix: replace it by a copy, or name the file with --dump"
            )


def _named_dumps(name: str) -> list[Dump]:
    refuse_credentials(name)
    try:
        path = name if "://" in name else str(Path(name).expanduser().absolute())
    except RuntimeError as error:  # ~user for an unknown user
        raise DumpError(f"dump {name} does not exist: {error}") from error
    folder, _, file = path.rstrip("/").rpartition("/")
    if "://" not in name and not Path(folder, file).is_file() and not Path(path).is_dir():
        raise DumpError(f"dump {name} does not exist, or is not a file or folder")
    place = Lake.open(folder or "/")
    found = place.head(file)
    below = place.list(file) if found is None else []
    objects = [item for item in below if is_dump_name(item.key.removeprefix(f"{file}/"))]
    objects = [found] if found is not None else objects
    if not objects:
        raise DumpError(f"dump {name} does not exist, or is a folder without files")
    return [Dump(place.uri_of(item.key), place, item) for item in objects]


def is_dump_name(key: str) -> bool:
    """Whether a file may be a dump; names of markers and temporary files begin with . or _."""
    path = PurePosixPath(key)
    return not any(part.startswith((".", "_")) for part in path.parts)
