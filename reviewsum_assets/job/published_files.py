"""Folders of files on the lake that never change: a model, or its conversion.

A record beside the files names each with size and hash; it is written last, so that a folder with
a record is whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.errors import ModelError
from reviewsum_assets.integrity import SealedRecord, file_sha256
from reviewsum_assets.lake import Lake


class PublishedFile(BaseModel):
    """One file; ``name`` is its path within the folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: int
    sha256: str


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
    """Copy files to the folder of ``record_key``, then commit them by writing the record there."""
    prefix = str(PurePosixPath(record_key).parent)
    for file in files:
        if damaged_files(lake, prefix, [file]):
            lake.put_file(f"{prefix}/{file.name}", directory / file.name)
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
    prefix: str,
    files: Sequence[PublishedFile],
    cache: Path,
    provided: Path | None = None,
) -> Path:
    """A directory with the files of a folder: in place on a local lake, else a copy.

    Args:
        lake: holds the folder.
        prefix: of the folder.
        files: that it holds.
        cache: where copies are kept.
        provided: a directory that holds a copy of just this folder, if there is one.

    Raises:
        ModelError: a file is missing, or is not the one that was published.
    """
    if lake.directory is not None:
        provided = lake.directory / prefix
    if provided is not None:
        check_files(provided, files)
        return provided
    name = Path(prefix).name
    directory = cache / name
    if not directory.exists():
        partial = cache / f".{name}.{uuid.uuid4().hex}"
        for file in files:
            lake.download(f"{prefix}/{file.name}", partial / file.name)
        check_files(partial, files)
        try:
            partial.rename(directory)
        except OSError:
            if not directory.exists():  # another worker was first
                raise
    return directory


def check_files(directory: Path, files: Iterable[PublishedFile]) -> None:
    """Prove that a directory holds the files that were published.

    Raises:
        ModelError: it does not.
    """
    for file in files:
        path = directory / file.name
        is_whole = path.exists() and path.stat().st_size == file.size
        if not is_whole or file_sha256(path) != file.sha256:
            raise ModelError(
                f"{path} is missing or not the file that was published; remove {directory} and "
                "materialize summarizer_model again"
            )
