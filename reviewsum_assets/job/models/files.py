"""Folders of files on the lake that never change: a ready model, or its conversion.

A record beside the files names each with size and hash; it is written last, so that a folder with
a record is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.errors import ModelError
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import FileName, SealedRecord, file_sha256


class PublishedFile(BaseModel):
    """One file; ``name`` is its path within the folder, which it cannot leave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FileName
    size: int
    sha256: str


class PublishedFolder(SealedRecord):
    """The record that commits a folder."""

    record_name: ClassVar[str]

    files: tuple[PublishedFile, ...]

    @property
    def folder(self) -> str:
        """Prefix of the folder on the lake."""
        raise NotImplementedError

    def publish(self, lake: Lake, directory: Path) -> None:
        """Copy the files from ``directory`` to the folder, then commit them with this record.

        Raises:
            ModelError: A file has changed since it was described.
        """
        for file in self.files:
            if damaged_files(lake, self.folder, [file]):
                path = directory / file.name
                lake.put_file(f"{self.folder}/{file.name}", path)
                if file_sha256(path) != file.sha256:
                    raise ModelError(
                        f"{path.resolve()} was changed while it was being read. To fix: run again "
                        "when no process writes to it"
                    )
        lake.put(f"{self.folder}/{self.record_name}", self.sealed())

    def is_whole(self, lake: Lake) -> bool:
        """Return whether the folder has files of these names and sizes; contents are not read."""
        return not damaged_files(lake, self.folder, self.files, read=False)

    def local_copy(
        self, lake: Lake, provided: Path | None = None, *, cache: Path | None = None
    ) -> Path:
        """Return a directory with exactly these files: in place on a local lake, else a copy.

        Copies are kept in ``cache``, by default ``model_cache()``, under the hash of their
        contents: lakes share them. ``provided`` is used instead if it is a copy of this folder.

        Raises:
            ModelError: A file is missing, is not the published one, or was not published.
        """
        local = lake.local_directory(self.folder)
        if local is None and provided is not None and self._is_record_of(provided):
            local = provided
        if local is not None:
            self._check(local)
            return local
        name = f"{PurePosixPath(self.folder).name}.{listing_hash(self.files)[:16]}"
        cache = cache or model_cache()
        directory = cache / name
        if directory.exists():
            self._check(directory)
            with contextlib.suppress(OSError):  # of another user
                (directory / self.files[0].name).touch()  # in use: see ``compute.leftovers``
            return directory
        partial = cache / f".{name}.{uuid.uuid4().hex}"
        for file in self.files:
            lake.download(f"{self.folder}/{file.name}", partial / file.name)
        self._check(partial)
        try:
            partial.rename(directory)
        except OSError:
            if not directory.exists():  # another worker was first
                raise
        return directory

    def _is_record_of(self, directory: Path) -> bool:
        try:
            return self.unsealed((directory / self.record_name).read_bytes()) == self
        except (OSError, ValueError):
            return False

    def _check(self, directory: Path) -> None:
        """Refuse a directory with changed files, or with any file besides these and the record.

        Loaders take files of certain names wherever they find them, so that one more file can
        change the summaries.
        """
        for file in self.files:
            path = directory / file.name
            is_whole = path.is_file() and path.stat().st_size == file.size
            if not is_whole or file_sha256(path) != file.sha256:
                raise ModelError(
                    f"{path} is missing or not the file that was published; remove {directory} and "
                    "materialize summarizer_model again"
                )
        expected = {self.record_name, *(file.name for file in self.files)}
        for path in sorted(directory.rglob("*")):
            if path.is_file() and path.relative_to(directory).as_posix() not in expected:
                raise ModelError(
                    f"{path} was not published with the other files, and is not trusted; remove it"
                )


def described(directory: Path) -> tuple[PublishedFile, ...]:
    """Describe the files of a directory, in order of their names."""
    names = sorted(
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    )
    paths = ((name, directory / name) for name in names)
    return tuple(
        PublishedFile(name=name, size=path.stat().st_size, sha256=file_sha256(path))
        for name, path in paths
    )


def damaged_files(
    lake: Lake, prefix: str, files: Iterable[PublishedFile], *, read: bool = True
) -> list[str]:
    """Return keys of a folder's files that are missing or not those published.

    Without ``read``, sizes are compared and contents are not.
    """
    sizes = {item.key: item.size for item in lake.list(prefix)}
    expected = {f"{prefix}/{file.name}": file for file in files}
    return [
        key
        for key, file in expected.items()
        if sizes.get(key) != file.size or (read and lake.sha256(key) != file.sha256)
    ]


def model_cache() -> Path:
    """Return the directory of this machine's copies of models, for all lakes."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "reviewsum", "models")


def listing_hash(files: Iterable[PublishedFile]) -> str:
    """Hash names and contents."""
    listing = json.dumps([(file.name, file.sha256) for file in files])
    return hashlib.sha256(listing.encode()).hexdigest()
