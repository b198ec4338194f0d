from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from reviewsum_assets.checkpoints.prune import prune
from reviewsum_assets.compute import Launch, RunningJob, sagemaker
from reviewsum_assets.compute.failures import LaunchError
from reviewsum_assets.compute.launches import note_launch, noted_jobs, waiting_runs
from reviewsum_assets.compute.sagemaker_job import ProcessingApi
from reviewsum_assets.errors import PlanError, SettingsError
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.storage import locks, places, stores
from reviewsum_assets.storage.lake import Lake
from tests.compute.conftest import Planned
from tests.support.clocks import FastClock
from tests.support.pipeline import SmallPipeline, failure, failure_metadata, texts, write_dump
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import ROLE, incomplete, manifests
from tests.support.waiting import wait_until

# 1: the lock's own times, and 40 s until the service answers.
LATE = float(os.environ.get("REVIEWSUM_TEST_LATE", "0.05"))
SIX_TYPES = tuple(f"ml.g5.{size}xlarge" for size in ("", 2, 4, 8, 16, 24))


def read_by_containers(processing: ProcessingEmulator) -> list[str]:
    calls = processing.calls
    return [c.key for c in calls if c.caller == "container" and c.action == "GET"]


def overlapping(small: SmallPipeline) -> tuple[JobSpec, JobSpec]:
    """A job for all checkpoints, and one for the last."""
    whole = small.job_spec()
    part = {"checkpoints": whole.checkpoints[1:], "name": "reviewsum-part"}
    return whole, whole.model_copy(update=part)


def start_at_once(small: SmallPipeline) -> list[RunningJob]:
    """Start both of the overlapping jobs, each as a process of its own would."""

    def start(spec: JobSpec) -> RunningJob:
        return small.with_settings().pipeline.compute.start(spec, Launch())

    with ThreadPoolExecutor() as pool:
        return list(pool.map(start, overlapping(small)))


def test_a_job_gives_the_same_as_a_local_one_and_is_not_run_twice(
    planned: Planned,
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    small = planned(6)
    run = small.summarize(1, 3)
    assert run.success
    (job,) = processing.jobs
    assert job.status == "Completed"
    assert small.summarize(1, 3).success
    assert len(processing.jobs) == 1

    dump = write_dump(tmp_path / "same.csv", texts(6))
    local = SmallPipeline.build(instance, Lake.open(str(tmp_path / "local")), pegasus, dump)
    assert local.execute("ingest").success
    assert local.summarize(1, 3).success
    for pipeline in (small, local):
        assert pipeline.execute("merge").success
    assert small.pipeline.lake.get(places.MERGED_CSV) == local.pipeline.lake.get(places.MERGED_CSV)

    messages = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert any("checkpoint_00003 landed: 2 products" in message for message in messages)
    assert any(f"processing-jobs/{job.name}" in message for message in messages)
    shown = small.materializations(run)["checkpoint_00003"]
    assert shown["job_page"].endswith(f"processing-jobs/{job.name}")
    assert shown["job_log"].startswith("https://")
    assert shown["usd"] > 0
    log = capfd.readouterr().err
    assert "[algo-1]" in log
    assert "reviewsum_assets from /opt/ml/processing/input/code/reviewsum_assets.zip" in log
    # Everything the job needed came in as Processing inputs.
    read = read_by_containers(processing)
    assert not [key for key in read if "grouped_reviews" in key or key.endswith(".safetensors")]


def test_several_hosts_share_the_checkpoints(
    planned: Planned, processing: ProcessingEmulator
) -> None:
    small = planned(8, instance_count=2)
    processing.faults.host_death(after_seconds=0.5, host=1)
    for number in (2, 4):  # those of the host that dies, however fast it is
        processing.faults.hold_puts(f"checkpoint_file_{number}.")
    assert not small.summarize(1, 4).success
    # The host that died took only its own checkpoints with it.
    assert incomplete(small.pipeline.lake) == [2, 4]
    before = manifests(small.pipeline.lake)
    processing.faults.clear()
    # Every host keeps the budget and says so in a sentence.
    found = failure_metadata(small.with_settings(max_cost_usd=1e-9).summarize(1, 4))
    assert found["failure"] == "budget reached"
    assert found["reason"].count("1 stay pending") == 2
    assert incomplete(small.pipeline.lake) == [2, 4]
    # Copies of grouped reviews are found in either layout of a manifest.
    processing.faults.whole_keys()
    assert small.summarize(1, 4).success
    assert not [key for key in read_by_containers(processing) if "grouped_reviews/plans" in key]
    assert before.items() <= manifests(small.pipeline.lake).items()
    assert [len(job.hosts) for job in processing.jobs] == [2, 2, 2]


def test_a_job_of_this_name_that_does_other_work_is_not_attached_to(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    processing.faults.slow_start(60)
    compute, spec = small.pipeline.compute, small.job_spec()
    job = compute.start(spec, Launch(run_id="first"))
    assert compute.start(spec, Launch(run_id="second")).attached
    (record,) = processing.jobs
    assert record.name == job.spec.name
    with pytest.raises(Exception, match="computes something else"):
        compute.start(spec.model_copy(update={"recompute": True}), Launch())
    job.stop()
    assert record.status == "Stopped"


def test_a_setting_that_cannot_work_is_named_and_nothing_is_created(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    for name, value, message in (
        ("role_arn", "", "role_arn is not set"),
        ("lake", "/tmp/reviewsum-no-lake", "is a directory, which a SageMaker job cannot reach"),
        ("role_arn", "somebody", "request refused: .*RoleArn"),
        ("instance_type", "ml.huge", "request refused: .*instanceType"),
        ("volume_gb", 99_999, "request refused: .*volumeSizeInGB"),
        ("job_environment", {"X": "y" * 257}, "request refused: .*environment.X"),
        ("job_tags", {f"t{n}": "" for n in range(60)}, "request refused: .*tags"),
        ("fallback_instance_types", SIX_TYPES, "request refused: .*instancePreferences"),
    ):
        with pytest.raises((SettingsError, LaunchError), match=f"(?s){message}"):
            changed = small.with_settings(image_uri="image", **{"role_arn": ROLE, name: value})
            launch = Launch(tags={f"dagster/{n}": "x" for n in range(4)})
            changed.pipeline.compute.start(small.job_spec(), launch)
    run = small.with_settings(instance_type="ml.p5.4xlarge", max_cost_usd=5).summarize(1, 2)
    assert "the price of ml.p5.4xlarge is not known: set usd_per_hour" in failure(run)
    assert processing.jobs == []


def test_a_run_that_finds_a_live_job_waits_for_it_and_takes_over_its_failure(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    starting = processing.faults.slow_start(600)
    processing.faults.host_death(after_seconds=0.3)
    processing.faults.hold_puts("checkpoint_file_")
    job = small.pipeline.compute.start(small.job_spec(), Launch(run_id="before"))

    def waiting() -> list[str]:
        return waiting_runs(small.pipeline.lake, job.spec.name)

    def start_when_two_wait() -> None:
        try:
            wait_until(lambda: len(waiting()) == 2, "the run to attach")
        finally:
            starting.set()

    with ThreadPoolExecutor(1) as beside:
        started = beside.submit(start_when_two_wait)
        run = small.summarize(1, 2)
        started.result()
    assert sorted(waiting()) == sorted(["before", run.run_id])
    # The failure ends the run, which does not start, and pay for, another job.
    assert failure_metadata(run)["failure"] == "out of memory"
    assert len(processing.jobs) == 1


def test_of_two_overlapping_starts_at_once_the_second_attaches_to_the_first(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    processing.faults.slow_start(60, times=2)
    # Neither could see the other's job, had both noted theirs and not created it yet.
    processing.faults.silence(2, times=2, key_contains=f"/{places.LIVE_JOBS}/")
    jobs = start_at_once(small)
    assert len({job.spec.name for job in jobs}) == len(processing.jobs) == 1
    assert sorted(job.attached for job in jobs) == [False, True]
    jobs[0].stop()


def test_of_two_starts_while_the_service_answers_late_one_creates_a_job(
    small: SmallPipeline, processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RENEW_SECONDS", "STALE_SECONDS"):
        monkeypatch.setattr(locks, name, getattr(locks, name) * LATE)
    # A job noted earlier and never created: each starter asks for it while it holds the lock.
    noted = small.job_spec().model_copy(update={"name": "noted"})
    note_launch(small.pipeline.lake, noted, Launch())
    processing.faults.slow_start(600, times=2)
    processing.faults.delay("DescribeProcessingJob", 40 * LATE, times=6)
    jobs = start_at_once(small)
    assert len(processing.jobs) == 1
    assert sorted(job.attached for job in jobs) == [False, True]
    jobs[0].stop()


@pytest.mark.parametrize("first", ["the other", "the suspended"])
def test_of_two_jobs_that_overlap_after_a_lost_lock_one_continues(
    small: SmallPipeline,
    processing: ProcessingEmulator,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
) -> None:
    processing.faults.slow_start(600, times=2)
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.0)
    whole, part = overlapping(small)
    other = small.with_settings().pipeline.compute
    create = ProcessingApi.create
    looked, created = threading.Event(), threading.Event()

    def creating(api: ProcessingApi, *, request: dict[str, Any]) -> None:
        """The process with the whole is suspended here, between its look and its creation."""
        is_suspended = "part" not in request["ProcessingJobName"]
        if is_suspended:
            beside.append(pool.submit(other.start, part, Launch()))
            assert looked.wait(60)
            if first == "the other":
                assert created.wait(60)
        else:
            looked.set()
            if first == "the suspended":
                wait_until(lambda: len(processing.jobs) == 1, "the suspended process to create")
        create(api, request=request)
        if not is_suspended:
            created.set()

    beside: list[Future[RunningJob]] = []
    monkeypatch.setattr(ProcessingApi, "create", creating)
    with ThreadPoolExecutor(1) as pool:
        job = small.pipeline.compute.start(whole, Launch())
        assert beside[0].result().spec.name == job.spec.name
    assert job.spec.name.startswith("reviewsum-part")
    by_name = {record.name: record for record in processing.jobs}
    assert by_name.pop(job.spec.name).status == "InProgress"
    (suspended,) = by_name.values()
    wait_until(lambda: suspended.status == "Stopped", "the suspended process's job to stop")
    job.stop()


def test_a_job_on_gpu_instances_never_runs_on_cpu_cores(
    planned: Planned, processing: ProcessingEmulator
) -> None:
    small = planned(device="auto")
    run = small.summarize(1, 2)
    assert "device is cuda, but this machine shows no GPU" in failure_metadata(run)["reason"]
    processing.faults.slow_start(60)
    mixed = small.with_settings(fallback_instance_types="ml.m5.xlarge")
    job = mixed.pipeline.compute.start(mixed.job_spec(), Launch())
    assert job.spec.engine.device == "auto"
    job.stop()


def test_a_job_that_was_noted_and_never_created_is_forgotten(
    small: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, compute = small.pipeline.lake, small.pipeline.compute
    note_launch(lake, small.job_spec(), Launch(run_id="killed"))
    assert compute.live_jobs() == []
    with pytest.raises(PlanError, match="a job may be running"):  # it may be created any moment
        prune(lake, older_than=timedelta(days=1))
    with monkeypatch.context() as patched:
        patched.setattr(sagemaker, "datetime", FastClock)
        assert compute.live_jobs() == []
        assert [spec for spec, _ in noted_jobs(lake)] == [small.job_spec()]
    # S3 counts in whole seconds.
    monkeypatch.setattr(sagemaker, "_NEVER_CREATED_AFTER", timedelta(seconds=-2))
    assert compute.live_jobs() == []
    prune(lake, older_than=timedelta(days=1))


def test_a_lake_that_is_out_of_reach_for_a_moment_stops_nothing(
    small: SmallPipeline, processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two requests, with their retries, and the first attempt of a third.
    monkeypatch.setitem(stores._RETRIES, "max_retries", 5)
    short = {"init_backoff": timedelta(milliseconds=10), "max_backoff": timedelta(seconds=0.1)}
    monkeypatch.setitem(stores._RETRIES, "backoff", {**short, "base": 2})
    processing.faults.slow_start(2)
    processing.faults.s3_errors(503, 13, "GET", "messages/1.json")
    assert small.with_settings().summarize(1, 2).success  # which opens the lake again
    assert [job.status for job in processing.jobs] == ["Completed"]
