"""The places that a lake may have: local directories and S3; checks of addresses and keys.

Addresses and keys come from users and from records that others may have written.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from obstore.store import S3Store

from reviewsum_assets.errors import LakeError

if TYPE_CHECKING:
    from obstore.store import RetryConfig

# botocore returns credentials that are valid for 10 more minutes at least.
_CREDENTIALS_TTL = timedelta(minutes=9)
_ILLEGAL = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_S3_ANSWER = re.compile(
    r"(?:<\?xml.*?)?<Error>.*?<Code>(.*?)</Code>.*?<Message>(.*?)</Message>.*", re.S
)
# A bucket that is slowed down for half a minute must cost no checkpoint. The defaults of obstore
# often give up after two seconds.
_RETRIES: RetryConfig = {
    "max_retries": 15,
    "retry_timeout": timedelta(minutes=3),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=10),
        "base": 4,
    },
}
# A request on which nothing arrives for so long is repeated.
_SILENCE = timedelta(seconds=60)


def local_root(uri: str) -> Path:
    """The directory at a path or ``file://`` URI.

    Raises:
        LakeError: the URI is of another kind.
    """
    if "://" in uri and not uri.startswith("file://"):
        raise LakeError(f"lake {uri!r} is neither a directory nor s3://bucket/prefix")
    return Path(uri.removeprefix("file://")).expanduser().absolute()


def s3_store(root: str) -> S3Store:
    """The store at ``s3://bucket/prefix``.

    boto3 supplies credentials and region, unless the environment has those that obstore finds.
    """
    if root == "s3:":
        raise LakeError("lake 's3://' names no bucket: expected s3://bucket/prefix")
    found: dict[str, Any] = {}
    with suppress(ImportError):
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider

        session = boto3.Session()
        if not {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys() and session.region_name:
            found["region"] = session.region_name
        if "AWS_ACCESS_KEY_ID" not in os.environ and session.get_credentials() is not None:
            found["credential_provider"] = Boto3CredentialProvider(session, ttl=_CREDENTIALS_TTL)
    options: Any = {
        "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
        # Not the default of 30 seconds per request, which is too short for a model.
        "timeout": timedelta(days=1),
        "read_timeout": _SILENCE,
    }
    return S3Store.from_url(root, client_options=options, retry_config=_RETRIES, **found)


def refuse_credentials(uri: str) -> None:
    """Refuse an address with credentials, since addresses are recorded and shown.

    Raises:
        LakeError: it has a user, a password or a query, like a presigned URL.
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


def checked_key(key: str) -> str:
    """Refuse keys that leave the root, have two spellings, or are illegal on some store."""
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or _ILLEGAL.search(key):
        raise LakeError(
            f"illegal place {key!r}: expected a relative path without '..', backslashes, control "
            "characters and bytes that are no UTF-8"
        )
    return "/".join(parts)


def open_regular(directory: Path, key: str) -> IO[bytes]:
    """Open a local file; links are followed only within the key's first folder.

    Links are resolved first, and then none is followed: a link that appears meanwhile is refused.

    Raises:
        OSError: the file does not exist, is not a regular file or lies elsewhere.
    """
    folder = os.path.realpath(directory / PurePosixPath(key).parts[0])
    path = os.path.realpath(directory / key)
    if not Path(path).is_relative_to(folder):
        raise OSError(
            f"it is a link to {path}, outside of {folder}. To fix: put a copy in its place"
        )
    # O_NONBLOCK: do not wait for the writer of a pipe.
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


def one_line(error: BaseException) -> str:
    """An error of the store on one line, without XML and debug output."""
    said = str(error).partition("\n\nDebug source")[0]
    return " ".join(_S3_ANSWER.sub(r"\1: \2", said).split())
