from __future__ import annotations

import pytest

from reviewsum_assets.compute.failures import FailureKind, failed_job

NO_OBJECTS = (
    "ClientError: Data download failed: No S3 objects found under S3 URL "
    "'s3://b/lake/models/x/' given in input data source"
)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (
            "AlgorithmError: Please use an instance type with more memory, exit code: 137",
            FailureKind.OUT_OF_MEMORY,
        ),
        (NO_OBJECTS, FailureKind.INPUT),
        ("ClientError: Data download failed: Access denied", FailureKind.INPUT),
        ("InternalServerError: We encountered an internal error", FailureKind.SERVICE),
        ("AlgorithmError: See job logs for more information", FailureKind.JOB),
    ],
)
def test_a_reason_of_sagemaker_in_public_reports_is_recognized_by_its_kind(
    reason: str, kind: FailureKind
) -> None:
    assert failed_job(reason, "", "", checkpoints_failed=False).kind is kind
