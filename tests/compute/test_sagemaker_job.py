from __future__ import annotations

from datetime import UTC, datetime, timedelta

import boto3
import pytest

from reviewsum_assets.compute import sagemaker_job
from reviewsum_assets.compute.failures import FailureKind, failed_job
from reviewsum_assets.compute.sagemaker_job import JobDescription
from tests.support.clocks import FastClock
from tests.support.processing import ProcessingEmulator


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
