"""Materializing on SageMaker Processing, where all goes well."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from reviewsum_assets.checkpoints.prune import prune
from reviewsum_assets.compute import Launch, RunningJob, launches, processing_api, sagemaker
from reviewsum_assets.compute.launches import note_launch, noted_jobs, waiting_runs
from reviewsum_assets.compute.processing_api import JobDescription, ProcessingApi
from reviewsum_assets.errors import PlanError, SettingsError
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.storage import places, stores
from reviewsum_assets.storage.lake import Lake
from tests.support.clocks import FastClock
from tests.support.pipeline import (
    SmallPipeline,
    failure,
    failure_metadata,
    texts,
    write_dump,
)
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import ROLE, incomplete, manifests, planned_pipeline
from tests.support.waiting import wait_until

# 1: the lock's own times, and 40 s until the service answers.
LATE = float(os.environ.get("REVIEWSUM_TEST_LATE", "0.05"))
SIX_TYPES = tuple(f"ml.g5.{size}xlarge" for size in ("", 2, 4, 8, 16, 24))


def test_a_job_gives_what_a_local_one_gives_and_is_not_run_twice(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path, 6)
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
    read = {c.key for c in processing.calls if c.caller == "container" and c.action == "GET"}
    assert not [key for key in read if "grouped_reviews" in key or key.endswith(".safetensors")]


def test_several_hosts_share_the_checkpoints(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path, 8, instance_count=2)
    processing.faults.host_death(after_seconds=0.5, host=1)
    for number in (2, 4):  # those of the host that dies, however fast it is
        processing.faults.hold_puts(f"checkpoint_file_{number}.")
    run = small.summarize(1, 4)
    assert not run.success
    # The host that died took only its own checkpoints with it.
    assert incomplete(small.pipeline.lake) == [2, 4]
    before = manifests(small.pipeline.lake)
    processing.faults.clear()
    assert small.summarize(1, 4).success
    after = manifests(small.pipeline.lake)
    assert {key: after[key] for key in before} == before
    assert [len(job.hosts) for job in processing.jobs] == [2, 2]


def test_every_host_keeps_the_budget_and_the_next_run_finishes(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path, 8, instance_count=2)
    run = small.with_settings(max_cost_usd=1e-9).summarize(1, 4)
    assert failure_metadata(run)["failure"] == "budget reached"
    assert failure_metadata(run)["reason"].count("2 stay pending") == 2  # one sentence a host
    assert [job.status for job in processing.jobs] == ["Completed"]
    assert incomplete(small.pipeline.lake) == [1, 2, 3, 4]
    assert small.summarize(1, 4).success


def test_a_job_of_this_name_that_does_other_work_is_not_taken_for_ours(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    processing.faults.slow_start(60)
    spec = small.job_spec()
    job = small.pipeline.compute.start(spec, Launch(run_id="first"))
    assert small.pipeline.compute.start(spec, Launch(run_id="second")).attached
    (record,) = processing.jobs
    assert record.name == job.spec.name
    other = spec.model_copy(update={"recompute": True})
    with pytest.raises(Exception, match="computes something else"):
        small.pipeline.compute.start(other, Launch())
    job.stop()
    assert record.status == "Stopped"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role_arn": ""}, "role_arn is not set"),
        ({"lake": "/tmp/reviewsum-no-lake"}, "is a directory, which a SageMaker job cannot reach"),
        ({"role_arn": "somebody"}, "RoleArn 'somebody' does not match"),
        ({"instance_type": "ml.huge"}, "InstanceType 'ml.huge' is none of the values"),
        ({"volume_gb": 99_999}, "VolumeSizeInGB is 99999, at most 16384"),
        ({"job_environment": {"X": "y" * 257}}, r"Environment\['X'\] is 257 characters"),
        ({"job_tags": {f"t{n}": "" for n in range(60)}}, "Tags is 64 entries, at most 50"),
        ({"fallback_instance_types": SIX_TYPES}, "InstancePreferences is 7 entries, at most 5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_setting_that_cannot_work_is_named_before_anything_is_created(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    change: dict[str, object],
    message: str,
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    with pytest.raises(SettingsError, match=message):
        changed = small.with_settings(image_uri="image", **{"role_arn": ROLE, **change})
        launch = Launch(tags={f"dagster/{n}": "x" for n in range(4)})
        changed.pipeline.compute.start(small.job_spec(), launch)
    assert processing.jobs == []


def test_a_run_that_finds_a_live_job_waits_for_it_and_takes_over_its_failure(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
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
    # The failure ends the run: it does not start, and pay for, another job by itself.
    assert failure_metadata(run)["failure"] == "out of memory"
    assert len(processing.jobs) == 1


def test_an_overlapping_job_that_came_first_is_attached_to(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    processing.faults.slow_start(60)
    whole = small.job_spec()
    first = small.pipeline.compute.start(whole, Launch())
    part = whole.model_copy(update={"checkpoints": whole.checkpoints[1:], "name": "reviewsum-part"})
    second = small.pipeline.compute.start(part, Launch())
    assert second.attached
    assert second.spec.name == first.spec.name
    assert len(processing.jobs) == 1
    first.stop()


def test_of_two_overlapping_starts_at_once_the_second_attaches_to_the_first(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    processing.faults.slow_start(60, times=2)
    # Neither could see the other's job, had both noted theirs and not created it yet.
    processing.faults.silence(2, times=2, key_contains=f"/{places.LIVE_JOBS}/")
    whole = small.job_spec()
    part = whole.model_copy(update={"checkpoints": whole.checkpoints[1:], "name": "reviewsum-part"})

    def start(spec: JobSpec) -> RunningJob:
        return small.with_settings().pipeline.compute.start(spec, Launch())

    with ThreadPoolExecutor() as pool:
        jobs = list(pool.map(start, (whole, part)))
    assert len({job.spec.name for job in jobs}) == len(processing.jobs) == 1
    assert sorted(job.attached for job in jobs) == [False, True]
    jobs[0].stop()


def test_of_two_starts_while_the_service_answers_late_one_creates_a_job(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_RENEW_SECONDS", "_STALE_SECONDS"):
        monkeypatch.setattr(launches, name, getattr(launches, name) * LATE)
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    whole = small.job_spec()
    part = whole.model_copy(update={"checkpoints": whole.checkpoints[1:], "name": "reviewsum-part"})
    # A job noted earlier and never created: each starter asks for it while it holds the lock.
    note_launch(small.pipeline.lake, whole.model_copy(update={"name": "noted"}), Launch())
    processing.faults.slow_start(600, times=2)
    processing.faults.delay("DescribeProcessingJob", 40 * LATE, times=6)

    def start(spec: JobSpec) -> RunningJob:
        return small.with_settings().pipeline.compute.start(spec, Launch())

    with ThreadPoolExecutor() as pool:
        jobs = list(pool.map(start, (whole, part)))
    assert len(processing.jobs) == 1
    assert sorted(job.attached for job in jobs) == [False, True]
    jobs[0].stop()


@pytest.mark.parametrize("first", ["the other", "the suspended"])
def test_of_two_jobs_that_overlap_after_a_lost_lock_one_goes_on(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    processing.faults.slow_start(600, times=2)
    monkeypatch.setattr(launches, "_STALE_SECONDS", 0.0)
    whole = small.job_spec()
    part = whole.model_copy(update={"checkpoints": whole.checkpoints[1:], "name": "reviewsum-part"})
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
    assert len(by_name) == 2
    suspended = next(record for name, record in by_name.items() if name != job.spec.name)
    wait_until(lambda: suspended.status == "Stopped", "the suspended process's job to stop")
    assert by_name[job.spec.name].status == "InProgress"
    job.stop()


def test_inputs_are_found_in_either_layout_of_a_manifest(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    processing.faults.whole_keys()
    assert small.summarize(1, 2).success
    read = {c.key for c in processing.calls if c.caller == "container" and c.action == "GET"}
    assert not [key for key in read if "grouped_reviews/plans" in key]


def test_a_job_on_gpu_instances_never_runs_on_cpu_cores(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path, device="auto")
    run = small.summarize(1, 2)
    assert "device is cuda, but this machine shows no GPU" in failure_metadata(run)["reason"]
    mixed = small.with_settings(fallback_instance_types="ml.m5.xlarge")
    assert mixed.summarize(1, 2).success


def test_a_job_that_was_noted_and_never_created_is_forgotten(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    lake, compute = small.pipeline.lake, small.pipeline.compute
    note_launch(lake, small.job_spec(), Launch(run_id="killed"))
    assert compute.live_jobs() == []
    with pytest.raises(PlanError, match="a job may be running"):  # it may be created any moment
        prune(lake, older_than=timedelta(days=1))
    with monkeypatch.context() as patched:
        patched.setattr(sagemaker, "datetime", FastClock)
        assert compute.live_jobs() == []
        assert [noted.spec for noted in noted_jobs(lake)] == [small.job_spec()]
    monkeypatch.setattr(sagemaker, "_NEVER_CREATED_AFTER", timedelta(0))
    assert compute.live_jobs() == []
    prune(lake, older_than=timedelta(days=1))


def test_the_cost_of_a_running_job_is_by_the_clock_of_the_service(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    compute = small.pipeline.compute
    assert isinstance(compute, sagemaker.SageMakerCompute)
    processing.faults.slow_start(60)
    job = compute.start(small.job_spec(), Launch())
    try:
        found = compute.api.describe(name=job.spec.name)
        assert found is not None
        started = {"ProcessingStartTime": datetime.now(timezone.utc) - timedelta(seconds=90)}
        monkeypatch.setattr(processing_api, "datetime", FastClock)
        assert 80 < JobDescription({**found.raw, **started}).billed_seconds < 120
    finally:
        job.stop()


def test_a_lake_that_is_out_of_reach_for_a_moment_stops_nothing(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(stores._RETRIES, "max_retries", 5)
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    processing.faults.slow_start(2)
    processing.faults.s3_errors(503, 13, "GET", "messages/1.json")
    assert small.summarize(1, 2).success
    assert [job.status for job in processing.jobs] == ["Completed"]


def test_a_budget_in_money_needs_a_price(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(
        processing, instance, pegasus, tmp_path, instance_type="ml.p5.4xlarge", max_cost_usd=5
    )
    run = small.summarize(1, 2)
    assert "the price of ml.p5.4xlarge is not known: set usd_per_hour" in failure(run)
    assert processing.jobs == []
