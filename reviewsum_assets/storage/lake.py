"""The lake, and the one way to read and write it; ``places`` says what lies where.

A lake is a local directory or ``s3://bucket/prefix``; both behave alike through obstore. Promises:

- an object is either absent or whole: a reader never sees part of a write, and a power cut leaves
  the old object or the new one;
- ``create`` writes only where nothing is, so that of two writers exactly one wins;
- a listing is complete, beyond the 1,000 keys of one S3 response;
- no key can leave the root.

An ``Overlay`` shows a lake as it would be after some writes, and leaves the lake as it is.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import obstore
import polars as pl
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, S3Store

from reviewsum_assets.errors import LakeError

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore, RetryConfig


# Local writes are staged here and renamed into place, so that a killed writer leaves nothing
# beside the objects themselves.
STAGING = ".staging"
_PARALLEL_READS = 16
_CONTENTS_AT_A_TIME = 64
# botocore renews credentials 10 minutes before they expire at the latest, so they are good for
# that long whenever it is asked.
_CREDENTIALS_TTL = timedelta(minutes=9)
_READ_AHEAD_BYTES = 8 << 20
_ILLEGAL = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_S3_ANSWER = re.compile(
    r"(?:<\?xml.*?)?<Error>.*?<Code>(.*?)</Code>.*?<Message>(.*?)</Message>.*", re.S
)
# A checkpoint must not be lost to a bucket that is slowed down for half a minute. The store's own
# pauses are often over after two seconds: each is drawn from 100 ms to twice the one before it.
_RETRIES: RetryConfig = {
    "max_retries": 15,
    "retry_timeout": timedelta(minutes=3),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=10),
        "base": 4,
    },
}
# A request on which nothing arrives for so long is tried again.
_SILENCE = timedelta(seconds=60)


@dataclass(frozen=True)
class LakeObject:
    """One listed object; ``size`` in bytes."""

    key: str
    size: int
    e_tag: str | None
    last_modified: datetime

    def is_version_of(self, other: LakeObject) -> bool:
        """Whether both are the same bytes, as far as sizes and tags tell."""
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

        A directory is made if need be, unless ``create`` says no. S3 credentials, region and
        endpoint come from the usual ``AWS_*`` environment variables; where boto3 is installed,
        credentials come from whatever it knows: profiles, single sign-on, a container's or an
        instance's role.

        Raises:
            LakeError: the URI is of another kind or holds credentials, or the directory is not
                there and cannot, or must not, be made.
        """
        refuse_credentials(uri)
        if uri.startswith("s3://"):
            root = uri.rstrip("/")
            if root == "s3:":
                raise LakeError(f"lake {uri!r} names no bucket: expected s3://bucket/prefix")
            store = S3Store.from_url(
                root, client_options=_s3_client_options(), retry_config=_RETRIES, **_from_boto3()
            )
            return cls(root, store, None)
        directory = _directory_of(uri)
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
        """A path or ``s3://`` URI that names this object to people."""
        return f"{self.uri}/{_checked(key)}"

    def scan_parquet(self, *keys: str) -> pl.LazyFrame:
        """A lazy table of the rows of Parquet objects; what is wrong with them polars raises."""
        return pl.scan_parquet(
            [self.uri_of(key) for key in keys],
            storage_options=self._storage_options or None,
            glob=False,  # a lake's path may hold brackets
        )

    def local_directory(self, prefix: str) -> Path | None:
        """The directory that holds the objects below ``prefix`` as files; None: there is none."""
        return None if self.directory is None else self.directory / _checked(prefix)

    @property
    def _storage_options(self) -> dict[str, str]:
        """What polars' scan functions need beyond ``AWS_*`` variables."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        if self.directory is not None or not endpoint:
            return {}
        return {
            "aws_endpoint_url": endpoint,
            # Without the prefix that polars takes for credentials, which it then looks for nowhere
            # else: not in a profile, single sign-on or a role.
            "allow_http": str(endpoint.startswith("http://")).lower(),
        }

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
        probe = f"{STAGING}/{uuid.uuid4().hex}.probe"
        self.put(probe, b"probe")
        try:
            if self.get(probe) != b"probe":
                raise LakeError(f"the store of {self.uri} does not return what was written")
        finally:
            self.delete(probe)

    def require_exclusive_create(self) -> None:
        """Prove that of two writers of one object only one succeeds, which planning relies on.

        Raises:
            LakeError: the store ignores If-None-Match, or cannot be written.
        """
        probe = f"{STAGING}/{uuid.uuid4().hex}.probe"
        try:
            self.create(probe, b"first")
            if self.create(probe, b"second"):
                raise LakeError(
                    f"the store of {self.uri} ignores If-None-Match: two runs at once could both "
                    "plan, and both pay for a job. To fix: use a store with conditional writes, "
                    "such as AWS S3"
                )
        finally:
            self.delete(probe)

    def now(self) -> datetime:
        """The time by the store's clock, which is that of ``LakeObject.last_modified``.

        Ages of objects are differences of it: the clock of this host may show another time.

        Raises:
            LakeError: the lake cannot be written or listed.
        """
        probe = f"{STAGING}/{uuid.uuid4().hex}.probe"
        self.put(probe, b"")
        try:
            # Listed, as the objects are whose age is looked at: some stores round it otherwise.
            for item in self.list(STAGING):
                if item.key == probe:
                    return item.last_modified
            raise LakeError(f"the store of {self.uri} does not list what was written")
        finally:
            self.delete(probe)

    def get(self, key: str) -> bytes | None:
        """An object's content, or None if there is no such object."""
        try:
            return bytes(obstore.get(self._holder(key)._store, _checked(key)).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._unreadable(key, error) from error

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The contents of several objects, in the order of ``keys``, read side by side."""
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            return list(pool.map(self.get, keys))

    def contents(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Keys with their contents, in order, read side by side and a bounded number at a time."""
        left = iter(keys)
        while some := list(islice(left, _CONTENTS_AT_A_TIME)):
            yield from zip(some, self.get_many(some), strict=True)

    def open_reader(self, key: str, e_tag: str | None = None) -> IO[bytes]:
        """A buffered, seekable reader of an object's bytes.

        On S3 all of them are of one object: of the one with ``e_tag``, else of the one that is
        there now. A local file that is replaced is read to its end.

        Raises:
            LakeError: there is no such object, it is a link out of its folder, or the store
                refused; the reader raises it too.
        """
        holder = self._holder(key)
        try:
            if holder.directory is not None:
                return _opened(holder.directory, _checked(key))
            found = _lake_object(obstore.head(holder._store, _checked(key)))
        except (BaseError, OSError) as error:
            raise self._unreadable(key, error) from error
        reader = _ObjectReader(holder, found, e_tag or found.e_tag)
        return io.BufferedReader(reader, _READ_AHEAD_BYTES)

    @contextmanager
    def reading(self, listed: LakeObject) -> Iterator[IO[bytes]]:
        """A reader of just the object that was listed, to be read and left.

        Raises:
            LakeError: it cannot be read, or it is no more what was listed: then what was read may
                be part of one object and part of another.
        """
        holder = self._holder(listed.key)
        opened: os.stat_result | None = None
        try:
            file = holder.open_reader(listed.key, listed.e_tag)
        except LakeError:
            # What lies there now may be a pipe: it is not to be opened.
            if holder.directory is None or not os.path.lexists(holder.directory / listed.key):
                holder._require_unchanged(listed, None)
            raise
        try:
            with file:
                if holder.directory is not None:
                    opened = os.fstat(file.fileno())
                yield file
        except Exception:  # what a mixture made fail says nothing
            holder._require_unchanged(listed, opened)
            raise
        holder._require_unchanged(listed, opened)

    def _require_unchanged(self, listed: LakeObject, opened: os.stat_result | None) -> None:
        """Refuse an object that is no more the listed one, nor the one that was opened."""
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
            LakeError: there is no such object any more, or the store refused.
        """
        options: GetOptions = {"range": (start, start + length)}
        if e_tag is not None:
            options["if_match"] = e_tag
        try:
            found = obstore.get(self._store, _checked(key), options=options)
            # Not every store that speaks S3 knows If-Match.
            if e_tag is None or found.meta["e_tag"] == e_tag:
                return bytes(found.bytes())
        except PreconditionError:
            pass
        except (BaseError, OSError) as error:
            raise self._unreadable(key, error) from error
        raise LakeError(f"{self.uri_of(key)} changed or was replaced while it was read")

    def _holder(self, key: str) -> Lake:  # noqa: ARG002 - which it is, an overlay decides
        """The lake whose store an object is read from."""
        return self

    def _unreadable(self, key: str, error: BaseException) -> LakeError:
        return LakeError(f"cannot read {self.uri_of(key)}: {_brief(error)}")

    def sha256(self, key: str) -> str | None:
        """SHA-256 of an object, read in pieces; None if there is no such object.

        Raises:
            LakeError: it cannot be read.
        """
        digest = hashlib.sha256()
        try:
            for piece in obstore.get(self._holder(key)._store, _checked(key)).stream():
                digest.update(piece)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._unreadable(key, error) from error
        return digest.hexdigest()

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file, streamed; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with partial.open("wb") as file:
                for piece in obstore.get(self._holder(key)._store, _checked(key)).stream():
                    file.write(piece)
            partial.replace(path)
        except (BaseError, OSError) as error:
            raise LakeError(f"cannot copy {self.uri_of(key)} to {path}: {_brief(error)}") from error
        finally:
            partial.unlink(missing_ok=True)

    def head(self, key: str) -> LakeObject | None:
        """Size and tag of an object, or None if there is no such object."""
        try:
            return _lake_object(obstore.head(self._holder(key)._store, _checked(key)))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise LakeError(f"cannot look up {self.uri_of(key)}: {_brief(error)}") from error

    def list(self, prefix: str) -> list[LakeObject]:
        """Every object below ``prefix`` (a folder), sorted by key."""
        try:
            found = [
                _lake_object(meta)
                for page in obstore.list(self._store, _checked(prefix))
                for meta in page
            ]
        except (BaseError, OSError) as error:
            raise LakeError(f"cannot list {self.uri_of(prefix)}: {_brief(error)}") from error
        return sorted(found, key=lambda item: item.key)

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        try:
            obstore.delete(self._store, _checked(key))
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise LakeError(f"cannot remove {self.uri_of(key)}: {_brief(error)}") from error

    def _write(self, key: str, data: bytes | Path, *, overwrite: bool = True) -> bool:
        """Write an object; False if it is there already and must not be overwritten."""
        target = _checked(key)
        try:
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
                _to_disk(staged)
                name = f"{STAGING}/{staged.name}"
                obstore.rename(self._store, name, target, overwrite=overwrite)
            finally:
                staged.unlink(missing_ok=True)
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise LakeError(f"cannot write {self.uri_of(key)}: {_brief(error)}") from error
        return True


class Overlay(Lake):
    """A lake as it would be after some writes, which go to a local directory: it stays as it is.

    Args:
        uri: of the lake beneath, as ``Lake.open`` takes it; a directory need not exist, and is
            not made.
        scratch: an empty local directory, which takes what is written.
    """

    def __init__(self, uri: str, scratch: Path) -> None:
        refuse_credentials(uri)
        shown, is_absent = uri, False
        if not uri.startswith("s3://"):
            shown = str(_directory_of(uri))
            is_absent = not Path(shown).exists()
        beneath = Lake.open(str(scratch / "absent")) if is_absent else Lake.open(uri, create=False)
        super().__init__(shown if is_absent else beneath.uri, beneath._store, beneath.directory)
        self._beneath = beneath
        self._written = Lake.open(str(scratch / "written"))
        self._removed: set[str] = set()

    def list(self, prefix: str) -> list[LakeObject]:
        """Every object below ``prefix``, written or of the lake beneath, sorted by key."""
        found = {item.key: item for item in self._beneath.list(prefix)}
        for key in self._removed & found.keys():
            del found[key]
        found |= {item.key: item for item in self._written.list(prefix)}
        return [found[key] for key in sorted(found)]

    def scan_parquet(self, *keys: str) -> pl.LazyFrame:
        """A lazy table of the rows of Parquet objects, whichever holds them."""
        return pl.concat([self._holder(key).scan_parquet(key) for key in keys])

    def local_directory(self, prefix: str) -> Path | None:
        """The directory with all objects below ``prefix``; None where some lie in another one."""
        holders = {self._holder(item.key) for item in self.list(prefix)}
        is_cut = any(key.startswith(f"{prefix}/") for key in self._removed)
        return holders.pop().local_directory(prefix) if len(holders) == 1 and not is_cut else None

    def delete(self, key: str) -> None:
        """Show no object here any more."""
        self._written.delete(key)
        self._removed.add(_checked(key))

    def _write(self, key: str, data: bytes | Path, *, overwrite: bool = True) -> bool:
        if not overwrite and self.head(key) is not None:
            return False
        return self._written._write(key, data, overwrite=overwrite)

    def _holder(self, key: str) -> Lake:
        is_beneath = _checked(key) not in self._removed and self._written.head(key) is None
        return self._beneath if is_beneath else self._written


class _ObjectReader(io.RawIOBase):
    """Makes a remote object a file that the standard library's readers accept."""

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


def _opened(directory: Path, key: str) -> IO[bytes]:
    """Open a local file, reached over no link but those that stay in the key's first folder.

    What is opened is what was looked at: links are resolved first, and then none is followed, so
    that a link that is put in place meanwhile leads nowhere.

    Raises:
        OSError: it does not exist, is no regular file or lies elsewhere.
    """
    folder = os.path.realpath(directory / PurePosixPath(key).parts[0])
    path = os.path.realpath(directory / key)
    if not Path(path).is_relative_to(folder):
        raise OSError(
            f"it is a link to {path}, outside of {folder}. To fix: put a copy in its place"
        )
    # A pipe is not waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    found = os.open(folder, flags)
    for part in Path(path).relative_to(folder).parts:
        try:
            inner = os.open(part, flags, dir_fd=found)
        finally:
            os.close(found)
        found = inner
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError("it is not a regular file")
    return os.fdopen(found, "rb")


def _to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk: a name that outlives its content is half there.

    The name itself may be lost with the power, and then what it stood for is as it was before.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _directory_of(uri: str) -> Path:
    if "://" in uri and not uri.startswith("file://"):
        raise LakeError(f"lake {uri!r} is neither a directory nor s3://bucket/prefix")
    return Path(uri.removeprefix("file://")).expanduser().absolute()


def refuse_credentials(uri: str) -> None:
    """Refuse an address with credentials: it is kept with what was read, and shown to people.

    Raises:
        LakeError: it has a user, a password or a query, as presigned URLs have.
    """
    scheme, is_uri, rest = uri.partition("://")
    if not is_uri or scheme == "file":
        return
    host, _, path = rest.partition("?")[0].partition("/")
    if "@" in host or "?" in rest:
        shown = f"{scheme}://{host.rpartition('@')[2]}/{path}"
        raise LakeError(
            f"{shown} was given with credentials or a query, which are not taken from an address: "
            "use the AWS_* variables, a profile or a role"
        )


def _brief(error: BaseException) -> str:
    """What the store says on one line, without XML and the dump of its own objects."""
    said = str(error).partition("\n\nDebug source")[0]
    return " ".join(_S3_ANSWER.sub(r"\1: \2", said).split())


def _checked(key: str) -> str:
    """Refuse keys that leave the root, have two spellings, or that no store takes."""
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or _ILLEGAL.search(key):
        raise LakeError(
            f"illegal place {key!r}: expected a relative path without '..', backslashes, control "
            "characters and bytes that are no UTF-8"
        )
    return "/".join(parts)


def _lake_object(meta: Any) -> LakeObject:
    return LakeObject(meta["path"], meta["size"], meta["e_tag"], meta["last_modified"])


def _from_boto3() -> dict[str, Any]:
    """Credentials and region by boto3, where the environment holds none that obstore finds."""
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return {}
    session = boto3.Session()
    found: dict[str, Any] = {}
    if not {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys() and session.region_name:
        found["region"] = session.region_name
    if "AWS_ACCESS_KEY_ID" not in os.environ and session.get_credentials() is not None:
        found["credential_provider"] = Boto3CredentialProvider(session, ttl=_CREDENTIALS_TTL)
    return found


def _s3_client_options() -> Any:
    """Plain HTTP only where the configured endpoint itself is plain HTTP; no limit but on silence.

    The store's own limit is one of 30 seconds on a whole request, which a model that comes in
    slowly exceeds time and again.
    """
    return {
        "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
        "timeout": timedelta(days=1),
        "read_timeout": _SILENCE,
    }
