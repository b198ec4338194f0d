"""Moves a job's data between S3 and a host's /opt/ml, as inputs and outputs of the request say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

OPT_ML = "/opt/ml"


class StagingError(Exception):
    """An input cannot be had; the text is what the service gives as the reason of failure."""


@dataclass(frozen=True)
class S3Location:
    """A bucket, and a key or a prefix of keys."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> S3Location:
        """Split an ``s3://`` address."""
        bucket, _, key = uri.partition("://")[2].partition("/")
        return cls(bucket, key)


@dataclass(frozen=True)
class StagedObject:
    """An object, and where it lies below the input's local path."""

    source: S3Location
    relative: str


def on_host(root: Path, path: str) -> Path:
    """Where a path below /opt/ml lies on this machine."""
    return root / PurePosixPath(path).relative_to(OPT_ML)


def download_inputs(
    s3: Any,
    request: dict[str, Any],
    root: Path,
    host: int,
    hosts: int,
    *,
    whole_keys: bool = False,
) -> None:
    """Put a host's share of all inputs below its /opt/ml.

    With ``whole_keys`` what a manifest names lies at its whole key, else at what follows the
    manifest's prefix.
    """
    for entry in request.get("ProcessingInputs", []):
        source = entry["S3Input"]
        objects = _objects(s3, source, whole_keys)
        if source.get("S3DataDistributionType") == "ShardedByS3Key":
            objects = objects[host::hosts]
        local = on_host(root, source["LocalPath"])
        local.mkdir(parents=True, exist_ok=True)
        for staged in objects:
            target = local / staged.relative
            target.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(staged.source.bucket, staged.source.key, str(target))


def _objects(s3: Any, source: dict[str, Any], whole_keys: bool) -> list[StagedObject]:
    location = S3Location.parse(source["S3Uri"])
    if source["S3DataType"] == "ManifestFile":
        return list(_of_manifest(s3, location, whole_keys))
    found = list(_of_prefix(s3, location))
    if not found:
        raise _no_objects(source["S3Uri"])
    return found


def _of_prefix(s3: Any, location: S3Location) -> Iterator[StagedObject]:
    # What follows the prefix's last slash belongs to the names: an address of one object gives
    # that object under its own name.
    for key in _keys(s3, location):
        inside = key.startswith(location.key.rstrip("/") + "/") or not location.key
        folder = location.key.rstrip("/") if inside else location.key.rpartition("/")[0]
        relative = key[len(folder) :].lstrip("/")
        if relative and not relative.endswith("/"):
            yield StagedObject(S3Location(location.bucket, key), relative)


def _of_manifest(s3: Any, location: S3Location, whole_keys: bool) -> Iterator[StagedObject]:
    head, *relatives = _manifest(s3, location)
    prefix = S3Location.parse(head["prefix"])
    for relative in sorted(relatives):
        key = prefix.key + relative
        if key not in _keys(s3, S3Location(prefix.bucket, key)):
            raise _no_objects(f"s3://{prefix.bucket}/{key}")
        yield StagedObject(S3Location(prefix.bucket, key), key if whole_keys else relative)


def _manifest(s3: Any, location: S3Location) -> list[Any]:
    try:
        body = s3.get_object(Bucket=location.bucket, Key=location.key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        raise _no_objects(f"s3://{location.bucket}/{location.key}") from None
    content: list[Any] = json.loads(body)
    if not content or "prefix" not in content[0]:
        raise StagingError("ClientError: Manifest file must begin with a prefix")
    return content


def _keys(s3: Any, location: S3Location) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=location.bucket, Prefix=location.key
    )
    return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))


def _no_objects(uri: str) -> StagingError:
    return StagingError(
        f"ClientError: Data download failed: No S3 objects found under S3 URL '{uri}' given in "
        "input data source. Please ensure that objects exist under that S3 prefix and that the "
        "role has s3:ListBucket permissions on the bucket."
    )


class Outputs:
    """Uploads what a host writes below its outputs' local paths; every state of a file once.

    In which order and how late the service uploads in Continuous mode is not documented, nor
    whether it can upload a file that is half written. Here it can.
    """

    def __init__(self, s3: Any, request: dict[str, Any], root: Path) -> None:
        self._s3 = s3
        self._root = root
        self._uploaded: dict[Path, tuple[int, int]] = {}
        entries = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
        self._outputs: list[dict[str, Any]] = [entry["S3Output"] for entry in entries]
        for output in self._outputs:
            on_host(root, output["LocalPath"]).mkdir(parents=True, exist_ok=True)

    def upload_continuous(self) -> None:
        """Upload what is new in outputs that are uploaded while the job runs."""
        for output in self._outputs:
            if output["S3UploadMode"] == "Continuous":
                self._upload(output)

    def upload_all(self) -> None:
        """Upload what is new in all outputs."""
        for output in self._outputs:
            self._upload(output)

    def _upload(self, output: dict[str, Any]) -> None:
        local = on_host(self._root, output["LocalPath"])
        target = S3Location.parse(output["S3Uri"])
        for path in sorted(local.rglob("*")):
            if path.is_file() and not path.is_symlink():
                relative = path.relative_to(local).as_posix()
                self._upload_once(path, target.bucket, f"{target.key.rstrip('/')}/{relative}")

    def _upload_once(self, path: Path, bucket: str, key: str) -> None:
        try:
            state = path.stat()
            content = path.read_bytes()
        except FileNotFoundError:
            return  # The container moved it meanwhile.
        if self._uploaded.get(path) != (state.st_mtime_ns, state.st_size):
            self._s3.put_object(Bucket=bucket, Key=key.lstrip("/"), Body=content)
            self._uploaded[path] = (state.st_mtime_ns, state.st_size)
