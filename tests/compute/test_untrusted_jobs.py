"""What lies on the lake, or where all may write, makes nobody run, stop or kill anything else."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets.compute import Launch, local
from reviewsum_assets.compute.job_package import build_package, publish
from reviewsum_assets.compute.launches import note_launch, noted_jobs
from reviewsum_assets.compute.local import LocalCompute, pid_namespace
from reviewsum_assets.errors import JobError
from reviewsum_assets.job.progress import read_result
from reviewsum_assets.job.spec import JobSpec, job_spec, result_key, spec_key
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products, products
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import planned_pipeline


@pytest.fixture
def spec(lake: Lake) -> JobSpec:
    """A job for all of a small plan."""
    plan = plan_products(lake, products(2)).plan
    return job_spec(plan, plan.checkpoints, lake=lake.uri, engine=EngineSettings())


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any job."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_stopping_a_job_that_names_another_process_leaves_that_alone(
    lake: Lake, spec: JobSpec, bystander: subprocess.Popen[bytes]
) -> None:
    assert lake.directory is not None
    directory = lake.directory / "processing_jobs" / spec.name
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text(spec.model_dump_json())
    with (directory / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / "pid_namespace").write_text(pid_namespace())
        (job,) = LocalCompute(lake).live_jobs()
        for number in (bystander.pid, 0, -1, -bystander.pid):
            (directory / "pid").write_text(str(number))
            job.request_stop()
    assert bystander.poll() is None


def test_a_job_of_another_pid_namespace_is_not_stopped_by_its_number_here(
    lake: Lake, spec: JobSpec
) -> None:
    """A process that names the job's spec, as the job itself does, has its number here."""
    assert lake.directory is not None
    directory = lake.directory / "processing_jobs" / spec.name
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text(spec.model_dump_json())
    reader = [sys.executable, "-c", "input()", str(directory / "spec.json")]
    with (
        (directory / "lock").open("wb") as lock,
        subprocess.Popen(reader, stdin=subprocess.PIPE) as process,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / "pid").write_text(str(process.pid))
        (directory / "pid_namespace").write_text("boot-id-of-another-host pid:[4026531836]")
        (job,) = LocalCompute(lake).live_jobs()
        for stop in (job.request_stop, job.stop):
            with pytest.raises(JobError, match=r"cannot be stopped from here.*another container"):
                stop()
        assert process.poll() is None
        (directory / "pid_namespace").write_text(pid_namespace())
        job.request_stop()
        assert process.wait(timeout=60) == -signal.SIGTERM


def test_a_job_that_outlives_sigkill_is_not_taken_for_stopped(
    lake: Lake, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lake.directory is not None
    monkeypatch.setattr(local, "_STOP_SECONDS", 0.1)
    directory = lake.directory / "processing_jobs" / spec.name
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text(spec.model_dump_json())
    with (directory / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (job,) = LocalCompute(lake).live_jobs()
        with pytest.raises(JobError, match="was killed and has not ended"):
            job.stop()


def test_a_locked_folder_with_the_spec_of_another_job_is_no_job(lake: Lake, spec: JobSpec) -> None:
    assert lake.directory is not None
    directory = lake.directory / "processing_jobs" / "another"
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text(spec.model_dump_json())
    with (directory / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert LocalCompute(lake).live_jobs() == []


def test_a_noted_job_whose_spec_names_another_one_is_ignored(
    lake: Lake, spec: JobSpec, caplog: pytest.LogCaptureFixture
) -> None:
    note_launch(lake, spec, Launch())
    assert [noted.spec for noted in noted_jobs(lake)] == [spec]
    other = spec.model_copy(update={"name": "somebody-elses-job"})
    lake.put(spec_key(spec.name), other.model_dump_json().encode())
    assert noted_jobs(lake) == []
    assert "names another one, somebody-elses-job" in caplog.text


def test_a_noted_job_of_another_lake_is_nobodys_to_stop(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    processing.faults.slow_start(60)
    victims = planned_pipeline(processing, instance, pegasus, tmp_path)
    job = victims.pipeline.compute.start(victims.job_spec(), Launch())
    other = Lake.open(f"s3://{processing.bucket}/another")
    compute = victims.with_settings(lake=other.uri).pipeline.compute
    for lake in (job.spec.lake, other.uri):
        note_launch(other, job.spec.model_copy(update={"lake": lake}), Launch(run_id="ended"))
        assert compute.live_jobs() == []
    assert "not of it: ignored" in caplog.text
    assert [found.spec for found in victims.pipeline.compute.live_jobs()] == [job.spec]
    job.stop()


def test_code_that_was_put_in_the_place_of_the_jobs_own_is_refused(any_lake: Lake) -> None:
    package = build_package()
    key = f"{package.prefix}/run_processing.py"
    any_lake.put(key, b"import os; os.system('true')")
    with pytest.raises(JobError, match=r"run_processing\.py is not the file that belongs there"):
        publish(any_lake, package)


def test_a_result_that_cannot_be_read_is_none(
    lake: Lake, spec: JobSpec, caplog: pytest.LogCaptureFixture
) -> None:
    lake.put(result_key(spec.name, "algo-1"), b'{"landed": "../../x"}')
    assert read_result(lake, spec.name) is None
    assert "cannot be read" in caplog.text


def test_jobs_over_a_remote_lake_are_kept_where_nobody_else_writes(
    s3_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert LocalCompute(s3_lake).live_jobs() == []
    (made,) = tmp_path.glob("reviewsum-*")
    assert made.stat().st_mode & 0o777 == 0o700
    made.rename(tmp_path / "elsewhere")
    made.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="belongs to somebody else"):
        LocalCompute(s3_lake).live_jobs()
    another = os.getuid() + 1
    (tmp_path / f"reviewsum-{another}").mkdir()  # by this user, for that one
    monkeypatch.setattr(os, "getuid", lambda: another)
    with pytest.raises(JobError, match="belongs to somebody else"):
        LocalCompute(s3_lake).live_jobs()
