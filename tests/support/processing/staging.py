"""Moves a job's data between S3 and a host's /opt/ml, as inputs and outputs of the request say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

OPT_ML = "/opt/ml"


class JobFailedError(Exception):
    """The job fails, for the reason in the text."""


def download_inputs(
    s3: Any, request: dict[str, Any], root: Path, *, whole_keys: bool = False
) -> None:
    """Put all inputs below a host's /opt/ml.

    With ``whole_keys`` the objects of a manifest lie at their whole keys, else at the part that
    follows the manifest's prefix.
    """
    for entry in request.get("ProcessingInputs", []):
        source = entry["S3Input"]
        local = _on_host(root, source["LocalPath"])
        local.mkdir(parents=True, exist_ok=True)
        bucket, key = _parse(source["S3Uri"])
        if source["S3DataType"] == "ManifestFile":
            objects = list(_of_manifest(s3, bucket, key, whole_keys))
        else:
            objects = list(_of_prefix(s3, bucket, key))
        if not objects:
            raise _no_objects(source["S3Uri"])
        for found, relative in objects:
            target = local / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, found, str(target))


def upload_outputs(s3: Any, request: dict[str, Any], root: Path) -> None:
    """Upload the files below the outputs' local paths, as at the end of a job."""
    for output in _outputs(request):
        local = _on_host(root, output["LocalPath"])
        bucket, prefix = _parse(output["S3Uri"])
        for path in sorted(local.rglob("*")):
            if path.is_file() and not path.is_symlink():
                key = f"{prefix.rstrip('/')}/{path.relative_to(local).as_posix()}"
                s3.put_object(Bucket=bucket, Key=key.lstrip("/"), Body=path.read_bytes())


def make_outputs(request: dict[str, Any], root: Path) -> None:
    """Make the outputs' local paths."""
    for output in _outputs(request):
        _on_host(root, output["LocalPath"]).mkdir(parents=True, exist_ok=True)


def _outputs(request: dict[str, Any]) -> list[dict[str, Any]]:
    entries = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    return [entry["S3Output"] for entry in entries]


def _on_host(root: Path, path: str) -> Path:
    return root / PurePosixPath(path).relative_to(OPT_ML)


def _parse(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def _of_prefix(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    # The part after the prefix's last slash belongs to the names: an address of one object gives
    # that object under its own name.
    for key in _keys(s3, bucket, prefix):
        inside = key.startswith(prefix.rstrip("/") + "/") or not prefix
        folder = prefix.rstrip("/") if inside else prefix.rpartition("/")[0]
        relative = key[len(folder) :].lstrip("/")
        if relative and not relative.endswith("/"):
            yield key, relative


def _of_manifest(s3: Any, bucket: str, key: str, whole_keys: bool) -> Iterator[tuple[str, str]]:
    head, *relatives = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    _, prefix = _parse(head["prefix"])
    for relative in sorted(relatives):
        found = prefix + relative
        if found not in _keys(s3, bucket, found):
            raise _no_objects(f"s3://{bucket}/{found}")
        yield found, found if whole_keys else relative


def _keys(s3: Any, bucket: str, prefix: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))


def _no_objects(uri: str) -> JobFailedError:
    return JobFailedError(
        f"ClientError: Data download failed: No S3 objects found under S3 URL '{uri}' given in "
        "input data source. Please ensure that objects exist under that S3 prefix and that the "
        "role has s3:ListBucket permissions on the bucket."
    )
