from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from reviewsum_assets.automation import sensors
from reviewsum_assets.automation.sensors import stop_abandoned_jobs
from reviewsum_assets.compute import Launch, RunningJob
from reviewsum_assets.definitions import defs
from tests.support.pipeline import SmallPipeline
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import planned_pipeline
from tests.support.sensors import Sensor


@pytest.fixture
def small(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> Iterator[SmallPipeline]:
    """Two checkpoints, planned; jobs start a minute late, and are stopped at the end."""
    processing.faults.slow_start(60, times=9)
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    yield small
    for job in small.pipeline.compute.live_jobs():
        job.stop()


def start(small: SmallPipeline, run_id: str) -> RunningJob:
    return small.pipeline.compute.start(small.job_spec(), Launch(run_id=run_id))


def tick(small: SmallPipeline) -> str:
    return Sensor(stop_abandoned_jobs, small).skipped()


def test_a_job_is_stopped_some_time_after_its_run_has_ended_and_not_before(
    small: SmallPipeline, processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tick(small) == "no job is running"
    run = small.instance.create_run_for_job(defs.resolve_job_def("merge"))
    job = start(small, run.run_id)
    assert "has a run that waits for it" in tick(small)
    small.instance.report_run_failed(run)
    assert "stopping it soon" in tick(small), "a new run has time to attach"
    assert processing.jobs[0].status == "InProgress"
    monkeypatch.setattr(sensors, "GRACE_SECONDS", -1.0)
    assert f"stopped job {job.spec.name}" in tick(small)
    assert processing.jobs[0].status in ("Stopping", "Stopped")


def test_a_job_of_another_instance_is_left_alone(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    start(small, "a-run-of-another-instance")
    assert "not known here: left alone" in tick(small)
    assert processing.jobs[0].status == "InProgress"


def test_the_time_of_the_host_on_which_a_run_ended_does_not_matter(
    small: SmallPipeline, processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(small, small.execute("ingest").run_id)
    sensor = Sensor(stop_abandoned_jobs, small)
    here = 5 * 3600.0
    monkeypatch.setattr(sensors, "time", SimpleNamespace(monotonic=lambda: here))
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert "stopping it soon" in sensor.skipped()
    here += sensors.GRACE_SECONDS - 1
    assert "stopping it soon" in sensor.skipped()
    assert processing.jobs[0].status == "InProgress"
    # After a reboot, or on another host, the clock has nothing to do with the one before.
    with monkeypatch.context() as patched:
        patched.setattr(sensors, "pid_namespace", lambda: "another")
        here += 1
        assert "for 0 s: stopping it soon" in sensor.skipped()
    assert "for 0 s: stopping it soon" in sensor.skipped()
    here += sensors.GRACE_SECONDS
    assert "stopped job" in sensor.skipped()
