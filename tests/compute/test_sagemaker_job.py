from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from reviewsum_assets.compute import sagemaker_job
from reviewsum_assets.compute.failures import FailureKind, failed_job
from reviewsum_assets.compute.sagemaker_job import LOG_GROUP, ContainerLogs, JobDescription
from tests.support.clocks import FastClock
from tests.support.processing import ProcessingEmulator

HOSTS = ("algo-1", "algo-2")
NOW = time.time_ns() // 1_000_000


class Expiring:
    """CloudWatch Logs that forgets the tokens of one host, as it does after a day."""

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


def test_a_stream_whose_token_has_expired_continues_and_holds_up_no_other(
    processing: ProcessingEmulator,
) -> None:
    client = boto3.client("logs")
    client.create_log_group(logGroupName=LOG_GROUP)
    for host in HOSTS:
        client.create_log_stream(logGroupName=LOG_GROUP, logStreamName=f"job/{host}-1")

    def write(milliseconds: int, message: str) -> None:
        for host in HOSTS:
            client.put_log_events(
                logGroupName=LOG_GROUP,
                logStreamName=f"job/{host}-1",
                logEvents=[{"timestamp": milliseconds, "message": message}],
            )

    expiring, lines = Expiring(client, "algo-1"), list[str]()
    logs = ContainerLogs(expiring, "job", lines.append)
    write(NOW, "first")
    logs.pass_on()
    assert lines == ["[algo-1] first", "[algo-2] first"]

    expiring.expired = True
    write(NOW + 1_000, "second")
    logs.pass_on()
    assert lines[2:] == ["[algo-2] second"]
    logs.pass_on()
    assert "[algo-1] second" in lines
    assert lines.count("[algo-1] first") <= 2


def test_the_cost_of_a_running_job_is_by_the_clock_of_the_service(
    processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = boto3.client("sagemaker").list_processing_jobs()
    started = {"ProcessingStartTime": datetime.now(UTC) - timedelta(seconds=90)}
    monkeypatch.setattr(sagemaker_job, "datetime", FastClock)
    assert 80 < JobDescription({**answer, **started}).billed_seconds < 120


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (
            "AlgorithmError: Please use an instance type with more memory, exit code: 137",
            FailureKind.OUT_OF_MEMORY,
        ),
        ("ClientError: Data download failed: No S3 objects found under", FailureKind.INPUT),
        ("ClientError: Data download failed: Access denied", FailureKind.INPUT),
        ("InternalServerError: We encountered an internal error", FailureKind.SERVICE),
        ("AlgorithmError: See job logs for more information", FailureKind.JOB),
    ],
)
def test_a_reason_of_sagemaker_in_public_reports_is_recognized_by_its_kind(
    reason: str, kind: FailureKind
) -> None:
    assert failed_job(reason, "", "", checkpoints_failed=False).kind is kind
