"""The one way to read and write a lake: a local directory or ``s3://bucket/prefix``, by obstore.

- An object is absent or whole: readers see no partial write, and a power cut leaves the old or the
  new object.
- ``create`` writes only where no object is: of two writers exactly one wins.
- A listing is complete, beyond the 1,000 keys of one S3 response. No key leaves the root.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import obstore
import polars as pl
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore

from reviewsum_assets.errors import LakeError
from reviewsum_assets.storage.stores import (
    checked_key,
    local_root,
    one_line,
    open_regular,
    refuse_credentials,
    s3_store,
)

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore

# Local writes are staged here and then renamed: only here do killed writers leave partial files.
STAGING = ".staging"
_PARALLEL_READS = 16
_CONTENTS_AT_A_TIME = 64
_READ_AHEAD_BYTES = 8 << 20


@dataclass(frozen=True)
class LakeObject:
    """One listed object; ``size`` in bytes."""

    key: str
    size: int
    e_tag: str | None
    last_modified: datetime

    def is_version_of(self, other: LakeObject) -> bool:
        """Whether both have the same content, by size and tag (else time)."""
        if self.e_tag is None or other.e_tag is None:
            return (self.size, self.last_modified) == (other.size, other.last_modified)
        return (self.size, self.e_tag) == (other.size, other.e_tag)


class Lake:
    """A directory or S3 prefix that holds everything the project reads and writes."""

    def __init__(self, uri: str, store: ObjectStore, directory: Path | None) -> None:
        self.uri = uri
        self.directory = directory
        self._store = store

    @classmethod
    def open(cls, uri: str, *, create: bool = True) -> Lake:
        """Open the lake at a directory path, ``file://`` or ``s3://bucket/prefix`` URI.

        S3 credentials, region and endpoint come from the usual ``AWS_*`` environment variables,
        otherwise from boto3, if it is installed: profiles, single sign-on, roles.

        Raises:
            LakeError: the URI is of another kind or contains credentials, or the directory does
                not exist and cannot, or with ``create`` false must not, be made.
        """
        refuse_credentials(uri)
        if uri.startswith("s3://"):
            return cls(uri.rstrip("/"), s3_store(uri.rstrip("/")), None)
        directory = local_root(uri)
        if directory.exists() and not directory.is_dir():
            raise LakeError(f"lake {directory} is a file, not a directory")
        if not create and not directory.exists():
            raise LakeError(f"lake {directory} does not exist")
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeError(f"lake directory {directory} cannot be made: {error}") from error
        return cls(str(directory), LocalStore(directory), directory)

    def uri_of(self, key: str) -> str:
        """The path or ``s3://`` URI of an object."""
        return f"{self.uri}/{checked_key(key)}"

    def scan_parquet(self, *keys: str) -> pl.LazyFrame:
        """A lazy table of the rows of Parquet objects; polars raises its errors on collection."""
        endpoint, options = os.environ.get("AWS_ENDPOINT_URL", ""), None
        if self.directory is None and endpoint:
            options = {
                "aws_endpoint_url": endpoint,
                # Not aws_allow_http: with such a key polars looks for credentials nowhere else, not
                # in a profile, single sign-on, or a role.
                "allow_http": str(endpoint.startswith("http://")).lower(),
            }
        # No glob: a lake's path may contain brackets.
        uris = [self.uri_of(key) for key in keys]
        return pl.scan_parquet(uris, storage_options=options, glob=False)

    def local_directory(self, prefix: str) -> Path | None:
        """The directory with the objects below ``prefix`` as files; None on S3."""
        return None if self.directory is None else self.directory / checked_key(prefix)

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object, whole.

        Raises:
            LakeError: the store refused, after its own retries.
        """
        self._write(key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace an object with a local file's content, streamed."""
        self._write(key, path)

    def create(self, key: str, data: bytes) -> bool:
        """Write an object only if there is none; False if there is one already."""
        return self._write(key, data, overwrite=False)

    def require_writable(self) -> None:
        """Prove that objects can be written, read and removed.

        Raises:
            LakeError: one of these fails.
        """
        with self._probe() as probe:
            self.put(probe, b"probe")
            if self.get(probe) != b"probe":
                raise LakeError(f"the store of {self.uri} does not return the object just written")

    def require_exclusive_create(self) -> None:
        """Prove that of two writers of one object only one succeeds: planning relies on it.

        Raises:
            LakeError: the store ignores If-None-Match, or cannot be written.
        """
        with self._probe() as probe:
            self.create(probe, b"first")
            if self.create(probe, b"second"):
                raise LakeError(
                    f"the store of {self.uri} ignores If-None-Match: two runs at once could both "
                    "plan, and both pay for a job. To fix: use a store with conditional writes, "
                    "such as AWS S3"
                )

    def now(self) -> datetime:
        """The time by the store's clock, which also sets ``LakeObject.last_modified``.

        Ages of objects are differences from it: the clock of this host may be wrong.

        Raises:
            LakeError: the lake cannot be written or listed.
        """
        with self._probe() as probe:
            self.put(probe, b"")
            # Listed, since the objects are listed too: some stores round `head` differently.
            for item in self.list(STAGING):
                if item.key == probe:
                    return item.last_modified
        raise LakeError(f"the store of {self.uri} does not list the object just written")

    @contextmanager
    def _probe(self) -> Iterator[str]:
        """The key of an object that is removed afterwards."""
        key = f"{STAGING}/{uuid.uuid4().hex}.probe"
        try:
            yield key
        finally:
            self.delete(key)

    @contextmanager
    def _naming(self, action: str, key: str) -> Iterator[None]:
        """Raise errors of the store as a ``LakeError`` that names the object."""
        try:
            yield
        except (BaseError, OSError) as error:
            raise LakeError(f"cannot {action} {self.uri_of(key)}: {one_line(error)}") from error

    def get(self, key: str) -> bytes | None:
        """An object's content, or None if there is no such object."""
        with self._naming("read", key), suppress(FileNotFoundError):
            return bytes(obstore.get(self._holder(key)._store, checked_key(key)).bytes())
        return None

    def get_many(self, keys: Iterable[str]) -> list[bytes | None]:
        """The contents of several objects, in the order of ``keys``, read in parallel."""
        return [content for _, content in self.contents(keys)]

    def contents(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Keys with their contents, in order, read in parallel, a bounded number at a time."""
        left = iter(keys)
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            while some := list(islice(left, _CONTENTS_AT_A_TIME)):
                yield from zip(some, pool.map(self.get, some), strict=True)

    def open_reader(self, key: str, e_tag: str | None = None) -> IO[bytes]:
        """A buffered, seekable reader of an object.

        On S3 all bytes come from one object: that with ``e_tag``, or the present one. A local file
        that is replaced is read to its end.

        Raises:
            LakeError: there is no such object, it is a link out of its folder, or the store
                refused; the reader raises it too.
        """
        holder = self._holder(key)
        with self._naming("read", key):
            if holder.directory is not None:
                return open_regular(holder.directory, checked_key(key))
            found = _lake_object(obstore.head(holder._store, checked_key(key)))
        reader = _ObjectReader(holder, found, e_tag or found.e_tag)
        return io.BufferedReader(reader, _READ_AHEAD_BYTES)

    @contextmanager
    def reading(self, listed: LakeObject) -> Iterator[IO[bytes]]:
        """A reader of exactly the object that was listed.

        Raises:
            LakeError: it cannot be read, or the object was removed, changed or replaced meanwhile,
                so that the bytes may be of two objects.
        """
        holder = self._holder(listed.key)
        opened: os.stat_result | None = None
        try:
            file = holder.open_reader(listed.key, listed.e_tag)
        except LakeError:
            # Something else may be there now, such as a pipe.
            if holder.directory is None or not os.path.lexists(holder.directory / listed.key):
                holder._require_unchanged(listed, None)
            raise
        try:
            with file:
                if holder.directory is not None:
                    opened = os.fstat(file.fileno())
                yield file
        except Exception:  # a mixture of two objects may be its cause
            holder._require_unchanged(listed, opened)
            raise
        holder._require_unchanged(listed, opened)

    def _require_unchanged(self, listed: LakeObject, opened: os.stat_result | None) -> None:
        """Refuse an object that is no longer the listed one, or not the opened one."""
        found = self.head(listed.key)
        is_same = found is not None and found.is_version_of(listed)
        if is_same and opened is not None and self.directory is not None:
            try:
                is_same = os.path.samestat(opened, (self.directory / listed.key).stat())
            except FileNotFoundError:  # removed just now
                found, is_same = None, False
        if not is_same:
            happened = "was removed" if found is None else "changed or was replaced"
            raise LakeError(
                f"{self.uri_of(listed.key)} {happened} while it was read: wait until it is "
                "complete, then read it again"
            )

    def read_range(self, key: str, start: int, length: int, e_tag: str | None) -> bytes:
        """Some bytes of the object with ``e_tag``, if the store has tags.

        Raises:
            LakeError: the object was removed or replaced, or the store refused.
        """
        options: GetOptions = {"range": (start, start + length)}
        if e_tag is not None:
            options["if_match"] = e_tag
        with self._naming("read", key), suppress(PreconditionError):
            found = obstore.get(self._store, checked_key(key), options=options)
            # Some stores with the API of S3 ignore If-Match.
            if e_tag is None or found.meta["e_tag"] == e_tag:
                return bytes(found.bytes())
        raise LakeError(f"{self.uri_of(key)} changed or was replaced while it was read")

    def _holder(self, key: str) -> Lake:  # noqa: ARG002 - an overlay chooses by the key
        """The lake from whose store an object is read."""
        return self

    def sha256(self, key: str) -> str | None:
        """SHA-256 of an object, read in pieces; None if there is no such object."""
        digest = hashlib.sha256()
        with self._naming("read", key), suppress(FileNotFoundError):
            for piece in obstore.get(self._holder(key)._store, checked_key(key)).stream():
                digest.update(piece)
            return digest.hexdigest()
        return None

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file, streamed; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with partial.open("wb") as file:
                for piece in obstore.get(self._holder(key)._store, checked_key(key)).stream():
                    file.write(piece)
            partial.replace(path)
        except (BaseError, OSError) as error:
            raise LakeError(
                f"cannot copy {self.uri_of(key)} to {path}: {one_line(error)}"
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def head(self, key: str) -> LakeObject | None:
        """Size and tag of an object, or None if there is no such object."""
        with self._naming("look up", key), suppress(FileNotFoundError):
            return _lake_object(obstore.head(self._holder(key)._store, checked_key(key)))
        return None

    def list(self, prefix: str) -> list[LakeObject]:
        """Every object below ``prefix`` (a folder), sorted by key."""
        with self._naming("list", prefix):
            pages = obstore.list(self._store, checked_key(prefix))
            found = [_lake_object(meta) for page in pages for meta in page]
        return sorted(found, key=lambda item: item.key)

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        with self._naming("remove", key), suppress(FileNotFoundError):
            obstore.delete(self._store, checked_key(key))

    def _write(self, key: str, data: bytes | Path, *, overwrite: bool = True) -> bool:
        """Write an object; False if it exists and must not be overwritten."""
        target = checked_key(key)
        with self._naming("write", key), suppress(AlreadyExistsError):
            if self.directory is None:
                obstore.put(self._store, target, data, mode="overwrite" if overwrite else "create")
                return True
            staged = self.directory / STAGING / uuid.uuid4().hex
            staged.parent.mkdir(exist_ok=True)
            try:
                if isinstance(data, Path):
                    shutil.copyfile(data, staged)
                else:
                    staged.write_bytes(data)
                # A name must not outlive its content in a power cut. If the name itself is lost,
                # the object is as it was before.
                with staged.open("rb") as file:
                    os.fsync(file.fileno())
                name = f"{STAGING}/{staged.name}"
                obstore.rename(self._store, name, target, overwrite=overwrite)
            finally:
                staged.unlink(missing_ok=True)
            return True
        return False


class _ObjectReader(io.RawIOBase):
    """A remote object as a file of the standard library."""

    def __init__(self, lake: Lake, found: LakeObject, e_tag: str | None) -> None:
        self._lake = lake
        self._key = found.key
        self._size = found.size
        self._e_tag = e_tag
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        buffer[:length] = self._lake.read_range(self._key, self._position, length, self._e_tag)
        self._position += length
        return length

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position


def _lake_object(meta: Any) -> LakeObject:
    return LakeObject(meta["path"], meta["size"], meta["e_tag"], meta["last_modified"])
