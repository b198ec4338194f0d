from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import boto3

from reviewsum_assets.compute import JobEnd, Launch, RunningJob
from reviewsum_assets.compute.failures import FailureKind
from reviewsum_assets.storage import places
from tests.compute.conftest import Planned
from tests.support.pipeline import SmallPipeline, failure, failure_metadata
from tests.support.processing import Faults, ProcessingEmulator
from tests.support.sagemaker import incomplete, manifests
from tests.support.waiting import wait_until


def test_a_job_that_never_starts_fails_by_name_and_costs_nothing(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    for inject, kind, jobs, advice in (
        (Faults.quota_exceeded, "quota too small", 0, "Service Quotas console"),
        (lambda faults: faults.capacity_error(9), "no capacity", 3, "fallback_instance_types"),
        (Faults.image_pull, "image cannot be pulled", 1, "image_uri"),
        (Faults.disk_full, "disk full", 1, "volume_gb"),
        (lambda faults: faults.throttle("CreateProcessingJob", 99), "throttled", 0, "later"),
    ):
        before = len(processing.jobs)
        inject(processing.faults)
        run = small.summarize(1, 2)
        processing.faults.clear()
        assert not run.success
        found = failure_metadata(run)
        assert found["failure"] == kind
        assert advice in found["what_to_do"]
        assert (found["landed"], found["missing"], found["usd"]) == (0, 2, 0.0)
        assert f"2 of 2 requested checkpoints did not land ({kind}: " in failure(run)
        assert len(processing.jobs) - before == jobs
    assert sum(job.billable_seconds for job in processing.jobs) == 0


def test_a_job_is_started_again_when_capacity_comes_back(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    processing.faults.capacity_error()
    assert small.summarize(1, 2).success
    assert [job.status for job in processing.jobs] == ["Failed", "Completed"]
    assert [job.name[-2:] for job in processing.jobs] == ["-1", "-2"]


def test_a_lost_answer_and_requests_that_fail_for_a_moment_make_no_second_job(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    processing.faults.lose_response("CreateProcessingJob")
    processing.faults.throttle("DescribeProcessingJob", 3)
    processing.faults.throttle("GetLogEvents", 2)
    processing.faults.s3_errors(500, 2, "PUT", "checkpoint_files")
    processing.faults.s3_errors(503, 2, "PUT", "checkpoint_manifests")
    assert small.summarize(1, 2).success
    assert incomplete(small.pipeline.lake) == []
    assert len(processing.jobs) == 1


def test_a_checkpoint_that_cannot_be_written_is_named_and_the_other_lands(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    processing.faults.failed_puts("checkpoint_file_2.csv")
    found = failure_metadata(small.summarize(1, 2))
    assert found["failure"] == "checkpoints failed"
    assert (found["landed"], found["missing"]) == (1, 1)
    assert "cannot write" in found["missing_checkpoints"]
    assert found["job_page"].endswith(f"processing-jobs/{processing.jobs[0].name}")
    before = manifests(small.pipeline.lake)
    processing.faults.clear()
    assert small.summarize(1, 2).success
    assert before.items() <= manifests(small.pipeline.lake).items()
    assert len(processing.jobs) == 2


def test_a_killed_container_costs_only_what_had_not_landed(
    planned: Planned, processing: ProcessingEmulator
) -> None:
    small = planned(20, batch_size=2)
    lake = small.pipeline.lake

    def kill_when_some_have_landed() -> None:
        wait_until(lambda: len(manifests(lake)) == 3, "checkpoints to land")
        processing.kill_host(processing.jobs[0].name, 0)

    processing.faults.hold_puts(places.checkpoint_manifest(3))
    with ThreadPoolExecutor(1) as beside:
        killed = beside.submit(kill_when_some_have_landed)
        found = failure_metadata(small.summarize(1, 10))
        killed.result()
    processing.faults.clear()
    assert found["failure"] == "out of memory"
    assert "exit code: 137" in found["reason"]
    assert found["usd"] > 0
    before = manifests(lake)
    assert found["landed"] == len(before) == 3
    assert small.summarize(1, 10).success
    after = manifests(lake)
    assert before.items() <= after.items()
    assert len(after) == 10
    first, second = processing.jobs
    assert first.name != second.name


def end_of(job: RunningJob) -> JobEnd:
    return wait_until(job.poll, "the job to end")


def test_a_job_that_reaches_its_time_limit_is_stopped_and_says_so(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    processing.faults.hold_puts("checkpoint_file_")
    job = small.pipeline.compute.start(small.job_spec(), Launch(time_limit_seconds=1))
    failure = end_of(job).failure
    assert failure is not None and failure.kind is FailureKind.TIME_LIMIT
    assert processing.jobs[0].status == "Stopped"


def test_a_job_that_another_user_stops_has_failed(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    processing.faults.slow_start(60)
    job = small.pipeline.compute.start(small.job_spec(), Launch())
    boto3.client("sagemaker").stop_processing_job(ProcessingJobName=job.spec.name)
    failure = end_of(job).failure
    assert failure is not None and failure.kind is FailureKind.STOPPED
