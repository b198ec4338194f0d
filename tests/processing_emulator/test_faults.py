"""Every fault does what it says, as often as it says."""

from __future__ import annotations

import http.client

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.processing_emulator.workbench import Workbench, request

PUT = """
    import boto3
    from botocore.config import Config
    s3 = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))
    s3.put_object(Bucket="reviews", Key="lake/part.csv", Body=b"x" * 100_000)
"""


def test_without_capacity_a_job_fails_and_never_starts(bench: Workbench) -> None:
    bench.emulator.faults.capacity_error()
    record = bench.run("print('ran')")
    assert (record.status, record.started, record.billable_seconds) == ("Failed", None, 0)
    assert bench.describe()["FailureReason"] == (
        "CapacityError: Unable to provision requested ML compute capacity. Please retry using a "
        "different ML instance type or after some time."
    )
    assert bench.run("", "job-2").status == "Completed"


def test_a_fault_happens_as_often_as_planned(bench: Workbench) -> None:
    bench.emulator.faults.capacity_error(times=2)
    ends = [bench.run("", f"job-{number}").status for number in range(3)]
    assert ends == ["Failed", "Failed", "Completed"]


def test_without_quota_a_job_is_not_accepted(bench: Workbench) -> None:
    bench.emulator.faults.quota_exceeded()
    code, message = bench.refusal(bench.sagemaker.create_processing_job, **request(hosts=2))
    assert code == "ResourceLimitExceeded"
    assert "'ml.g5.12xlarge for processing job usage' is 0 Instances" in message
    assert "request delta of 2 Instances" in message
    assert bench.emulator.jobs == []
    bench.run("")


def test_a_throttled_description_answers_rate_exceeded_once(bench: Workbench) -> None:
    bench.emulator.faults.throttle("DescribeProcessingJob")
    bench.start("")
    assert bench.refusal(bench.describe) == ("ThrottlingException", "Rate exceeded")
    bench.describe()


def test_a_throttled_creation_creates_nothing(bench: Workbench) -> None:
    bench.emulator.faults.throttle("CreateProcessingJob", times=2)
    for _ in range(2):
        code, _ = bench.refusal(bench.sagemaker.create_processing_job, **request())
        assert code == "ThrottlingException"
    assert bench.emulator.jobs == []
    bench.start("")


def test_a_slow_start_delays_the_start(bench: Workbench) -> None:
    bench.emulator.faults.slow_start(0.5)
    record = bench.run("")
    assert record.started is not None
    assert record.started - record.created >= 0.5


def test_a_dying_host_fails_the_job(bench: Workbench) -> None:
    bench.emulator.faults.host_death(after_seconds=0.5, host=1)
    record = bench.run(
        """
        import json, time
        resources = json.loads((ML / "config/resourceconfig.json").read_text())
        time.sleep(60 if resources["current_host"] == "algo-2" else 0)
        """,
        hosts=2,
    )
    assert (record.status, record.exit_codes) == ("Failed", [0, 137])


def test_a_container_out_of_memory_ends_with_137(bench: Workbench) -> None:
    bench.emulator.faults.out_of_memory()
    record = bench.run("import time; time.sleep(60)")
    assert record.failure_reason == (
        "AlgorithmError: See job logs for more information, exit code: 137"
    )


def test_an_image_that_cannot_be_pulled_fails_the_job(bench: Workbench) -> None:
    bench.emulator.faults.image_pull()
    record = bench.run("")
    assert str(record.failure_reason).startswith("ClientError: Cannot pull the container image")
    assert record.started is None


def test_a_full_disk_fails_the_job(bench: Workbench) -> None:
    bench.emulator.faults.disk_full()
    record = bench.run("")
    assert str(record.failure_reason).endswith("No space left on device")


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_s3_answers_errors_without_writing(bench: Workbench, status: int, code: str) -> None:
    bench.emulator.faults.s3_errors(status, key_contains="part")
    bench.put("other")
    with pytest.raises(ClientError) as caught:
        bench.s3.put_object(Bucket="reviews", Key="part", Body=b"x" * 1_000_000)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert bench.keys() == ["other"]
    bench.put("part")


def test_clients_that_try_again_survive_s3_errors(bench: Workbench) -> None:
    bench.emulator.faults.s3_errors(503, times=2)
    boto3.client("s3").put_object(Bucket="reviews", Key="part", Body=b"x")
    assert bench.read("part") == "x"


def test_reads_can_fail_too(bench: Workbench) -> None:
    bench.put("part")
    bench.emulator.faults.s3_errors(503, method="GET", key_contains="part")
    with pytest.raises(ClientError, match="SlowDown"):
        bench.read("part")


def test_forbidden_writes_stay_forbidden_for_containers_too(bench: Workbench) -> None:
    bench.emulator.faults.failed_puts("lake/")
    record = bench.run(PUT)
    assert record.status == "Failed"
    assert any("AccessDenied" in line for line in bench.printed())
    with pytest.raises(ClientError, match="AccessDenied"):
        bench.put("lake/other")


def test_s3_errors_do_not_touch_what_the_service_itself_does(bench: Workbench) -> None:
    bench.emulator.faults.s3_errors(500, times=9, method="GET")
    assert bench.run("").status == "Completed"


def test_a_lost_response_leaves_a_job_that_a_second_call_finds(bench: Workbench) -> None:
    bench.emulator.faults.lose_response("CreateProcessingJob")
    with pytest.raises((ConnectionClosedError, http.client.RemoteDisconnected)):
        bench.sagemaker.create_processing_job(**request())
    assert [job.name for job in bench.emulator.jobs] == ["job-1"]
    code, _ = bench.refusal(bench.sagemaker.create_processing_job, **request())
    assert code == "ResourceInUse"


def test_no_fault_is_left_after_clearing(bench: Workbench) -> None:
    bench.emulator.faults.failed_puts("lake/")
    bench.emulator.faults.capacity_error()
    bench.emulator.faults.clear()
    assert bench.run(PUT).status == "Completed"
