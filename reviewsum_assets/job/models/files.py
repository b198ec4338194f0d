"""Folders of files on the lake that never change: a model, or its conversion.

A record beside the files names each with size and hash; it is written last, so that a folder with
a record is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, field_validator

from reviewsum_assets.errors import ModelError
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import FileName, SealedRecord, file_sha256


class PublishedFile(BaseModel):
    """One file; ``name`` is its path within the folder, which it cannot leave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FileName
    size: int
    sha256: str

    @field_validator("name")
    @classmethod
    def _stays_in_its_folder(cls, name: str) -> str:
        path = PurePosixPath(name)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
            raise ValueError(f"{name!r} is not a path within the folder")
        return name


def described(directory: Path, paths: Iterable[Path]) -> tuple[PublishedFile, ...]:
    """Name, size and hash of files of a directory, in order of their names."""
    found = (
        PublishedFile(
            name=path.relative_to(directory).as_posix(),
            size=path.stat().st_size,
            sha256=file_sha256(path),
        )
        for path in paths
    )
    return tuple(sorted(found, key=lambda file: file.name))


def publish(
    lake: Lake,
    record_key: str,
    record: SealedRecord,
    directory: Path,
    files: Sequence[PublishedFile],
) -> None:
    """Copy files to the folder of ``record_key``, then commit them by writing the record there.

    Raises:
        ModelError: a file is not the one that ``files`` describes any more.
    """
    prefix = str(PurePosixPath(record_key).parent)
    for file in files:
        if damaged_files(lake, prefix, [file]):
            path = directory / file.name
            lake.put_file(f"{prefix}/{file.name}", path)
            if file_sha256(path) != file.sha256:
                raise ModelError(
                    f"{path.resolve()} was changed while it was being read. To fix: run again "
                    "when no process writes to it"
                )
    lake.put(record_key, record.sealed())


def damaged_files(
    lake: Lake, prefix: str, files: Iterable[PublishedFile], *, read: bool = True
) -> list[str]:
    """Keys of a folder's files that are gone, or not those that were published.

    Args:
        lake: holds the folder.
        prefix: of the folder.
        files: that it should hold.
        read: compare the content too, not only the size.
    """
    sizes = {item.key: item.size for item in lake.list(prefix)}
    expected = {f"{prefix}/{file.name}": file for file in files}
    return [
        key
        for key, file in expected.items()
        if sizes.get(key) != file.size or (read and lake.sha256(key) != file.sha256)
    ]


def is_folder_whole(lake: Lake, prefix: str, files: Iterable[PublishedFile]) -> bool:
    """Whether a folder holds files of those names and sizes; what is in them is not read."""
    return not damaged_files(lake, prefix, files, read=False)


def local_copy(
    lake: Lake,
    record_key: str,
    files: Sequence[PublishedFile],
    cache: Path,
    provided: Path | None = None,
) -> Path:
    """A directory with the files of a folder and no others: in place on a local lake, else a copy.

    Args:
        lake: holds the folder.
        record_key: of the record that commits the folder.
        files: that the record names.
        cache: where copies are kept, by what is in them: lakes share it.
        provided: a directory that holds a copy of just this folder, if there is one.

    Raises:
        ModelError: a file is missing, or not the one that was published, or was put beside them.
    """
    place = PurePosixPath(record_key)
    provided = lake.local_directory(str(place.parent)) or provided
    if provided is not None:
        check_files(provided, files, record=place.name)
        return provided
    name = f"{place.parent.name}.{listing_hash(files)[:16]}"
    directory = cache / name
    if directory.exists():
        check_files(directory, files)
        with contextlib.suppress(OSError):  # of another user
            (directory / files[0].name).touch()  # used now: see ``compute.leftovers``
        return directory
    partial = cache / f".{name}.{uuid.uuid4().hex}"
    for file in files:
        lake.download(f"{place.parent}/{file.name}", partial / file.name)
    check_files(partial, files)
    try:
        partial.rename(directory)
    except OSError:
        if not directory.exists():  # another worker was first
            raise
    return directory


def model_cache() -> Path:
    """Where this machine keeps copies of models, for all lakes."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "reviewsum", "models")


def listing_hash(files: Iterable[PublishedFile]) -> str:
    """Hash of names and contents."""
    listing = json.dumps([(file.name, file.sha256) for file in files])
    return hashlib.sha256(listing.encode()).hexdigest()


def check_files(directory: Path, files: Iterable[PublishedFile], *, record: str = "") -> None:
    """Prove that a directory holds the files that were published, and besides at most ``record``.

    Loaders take files of certain names wherever they find them, so that one more file can change
    what a model says.

    Raises:
        ModelError: it does not.
    """
    expected = {record}
    for file in files:
        expected.add(file.name)
        path = directory / file.name
        is_whole = path.is_file() and path.stat().st_size == file.size
        if not is_whole or file_sha256(path) != file.sha256:
            raise ModelError(
                f"{path} is missing or not the file that was published; remove {directory} and "
                "materialize summarizer_model again"
            )
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.relative_to(directory).as_posix() not in expected:
            raise ModelError(
                f"{path} was not published with the other files, and is not trusted; remove it"
            )
