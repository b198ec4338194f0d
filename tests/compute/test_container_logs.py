"""Log streams of a job's hosts are read apart from each other."""

from __future__ import annotations

import time
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from reviewsum_assets.compute.processing_api import LOG_GROUP
from reviewsum_assets.compute.sagemaker_job import ContainerLogs
from tests.support.processing import ProcessingEmulator

HOSTS = ("algo-1", "algo-2")
NOW = time.time_ns() // 1_000_000


class Expiring:
    """CloudWatch Logs that forgets the tokens it gave out for one host, as it does in a day."""

    def __init__(self, client: Any, host: str) -> None:
        self._client = client
        self._host = host
        self.expired = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_log_events(self, **request: Any) -> Any:
        if self.expired and self._host in request["logStreamName"] and "nextToken" in request:
            answer = {"Code": "InvalidParameterException", "Message": "The token is expired"}
            raise ClientError({"Error": answer}, "GetLogEvents")
        return self._client.get_log_events(**request)


@pytest.fixture
def client(processing: ProcessingEmulator) -> Any:
    """CloudWatch Logs with an empty stream for each host of a job."""
    client = boto3.client("logs")
    client.create_log_group(logGroupName=LOG_GROUP)
    for host in HOSTS:
        client.create_log_stream(logGroupName=LOG_GROUP, logStreamName=f"job/{host}-1")
    return client


def write(client: Any, host: str, milliseconds: int, message: str) -> None:
    client.put_log_events(
        logGroupName=LOG_GROUP,
        logStreamName=f"job/{host}-1",
        logEvents=[{"timestamp": milliseconds, "message": message}],
    )


def test_a_stream_whose_token_has_expired_goes_on_and_holds_up_no_other(client: Any) -> None:
    expiring, lines = Expiring(client, "algo-1"), list[str]()
    logs = ContainerLogs(expiring, "job", lines.append)
    for host in HOSTS:
        write(client, host, NOW, "first")
    logs.pass_on()
    assert lines == ["[algo-1] first", "[algo-2] first"]

    expiring.expired = True
    for host in HOSTS:
        write(client, host, NOW + 1_000, "second")
    logs.pass_on()
    assert lines[2:] == ["[algo-2] second"]
    logs.pass_on()
    assert "[algo-1] second" in lines
    assert lines.count("[algo-1] first") <= 2
