"""A real S3 endpoint over HTTP on a free loopback port, for the time of a test."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "reviews"


@contextmanager
def s3_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start the endpoint with an empty bucket and point the ``AWS_*`` variables at it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        _make_bucket(url)
        yield f"s3://{BUCKET}/lake"
    finally:
        server.stop()


def _make_bucket(url: str) -> None:
    # All endpoints of one process share their objects.
    urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
