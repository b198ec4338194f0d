"""No object on the lake or in a shared folder makes a process run, stop or kill anything else."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from reviewsum_assets.compute import Launch, local
from reviewsum_assets.compute.job_package import build_package, publish
from reviewsum_assets.compute.launches import note_launch, noted_jobs
from reviewsum_assets.compute.local import LocalCompute, pid_namespace
from reviewsum_assets.errors import JobError
from reviewsum_assets.job.spec import JobSpec, job_spec
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import spec_key
from tests.support.checkpoints import plan_products, products
from tests.support.pipeline import SmallPipeline
from tests.support.processing import ProcessingEmulator


@pytest.fixture
def spec(lake: Lake) -> JobSpec:
    """A job for all of a small plan."""
    plan = plan_products(lake, products(2)).plan
    return job_spec(plan, plan.checkpoints, lake=lake.uri, engine=EngineSettings())


Locked = Callable[[str], Path]


@pytest.fixture
def locked(lake: Lake, spec: JobSpec) -> Iterator[Locked]:
    """Makes a job's directory of a given name whose lock this process holds."""
    with ExitStack() as stack:

        def make(name: str) -> Path:
            assert lake.directory is not None
            directory = lake.directory / "processing_jobs" / name
            directory.mkdir(parents=True)
            (directory / "spec.json").write_text(spec.model_dump_json())
            (directory / "pid_namespace").write_text(pid_namespace())
            lock = stack.enter_context((directory / "lock").open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            return directory

        yield make


def waiting_process(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "input()", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def test_a_job_of_another_pid_namespace_is_not_stopped_by_its_number_here(
    lake: Lake, spec: JobSpec, locked: Locked
) -> None:
    directory = locked(spec.name)
    (job,) = LocalCompute(lake).live_jobs()
    with waiting_process() as bystander:
        for number in (bystander.pid, 0, -1, -bystander.pid):
            (directory / "pid").write_text(str(number))
            job.request_stop()
        assert bystander.poll() is None
        bystander.kill()
    # A process that names the job's spec, as the job itself does, has its number here.
    with waiting_process(str(directory / "spec.json")) as process:
        (directory / "pid").write_text(str(process.pid))
        (directory / "pid_namespace").write_text("boot-id-of-another-host pid:[4026531836]")
        for stop in (job.request_stop, job.stop):
            with pytest.raises(JobError, match=r"cannot be stopped from here.*another container"):
                stop()
        assert process.poll() is None
        (directory / "pid_namespace").write_text(pid_namespace())
        job.request_stop()
        assert process.wait(timeout=60) == -signal.SIGTERM


def test_a_job_that_outlives_sigkill_does_not_count_as_stopped(
    lake: Lake, spec: JobSpec, locked: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_STOP_SECONDS", 0.1)
    locked(spec.name)
    (job,) = LocalCompute(lake).live_jobs()
    with pytest.raises(JobError, match="was killed and has not ended"):
        job.stop()


def test_a_locked_folder_with_the_spec_of_another_job_is_no_job(lake: Lake, locked: Locked) -> None:
    locked("another")
    assert LocalCompute(lake).live_jobs() == []


def test_a_noted_job_whose_spec_names_another_one_is_ignored(
    lake: Lake, spec: JobSpec, caplog: pytest.LogCaptureFixture
) -> None:
    note_launch(lake, spec, Launch())
    assert [noted for noted, _ in noted_jobs(lake)] == [spec]
    other = spec.model_copy(update={"name": "job-of-another-user"})
    lake.put(spec_key(spec.name), other.model_dump_json().encode())
    assert noted_jobs(lake) == []
    assert "names another one, job-of-another-user" in caplog.text


def test_a_noted_job_of_another_lake_is_not_stopped(
    small: SmallPipeline, processing: ProcessingEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    processing.faults.slow_start(60)
    job = small.pipeline.compute.start(small.job_spec(), Launch())
    other = Lake.open(f"s3://{processing.bucket}/another")
    compute = small.with_settings(lake=other.uri).pipeline.compute
    for lake in (job.spec.lake, other.uri):
        note_launch(other, job.spec.model_copy(update={"lake": lake}), Launch(run_id="ended"))
        assert compute.live_jobs() == []
    assert "not of it: ignored" in caplog.text
    assert [found.spec for found in small.pipeline.compute.live_jobs()] == [job.spec]
    job.stop()


def test_code_that_was_put_in_the_place_of_the_jobs_own_is_refused(any_lake: Lake) -> None:
    package = build_package()
    any_lake.put(f"{package.prefix}/run_processing.py", b"import os; os.system('true')")
    with pytest.raises(JobError, match=r"run_processing\.py is not the file that belongs there"):
        publish(any_lake, package)


def test_jobs_over_a_remote_lake_are_kept_where_no_other_user_writes(
    s3_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert LocalCompute(s3_lake).live_jobs() == []
    (made,) = tmp_path.glob("reviewsum-*")
    assert made.stat().st_mode & 0o777 == 0o700
    made.rename(tmp_path / "elsewhere")
    made.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="belongs to another user"):
        LocalCompute(s3_lake).live_jobs()
    another = os.getuid() + 1
    (tmp_path / f"reviewsum-{another}").mkdir()  # made by this user in the name of that one
    monkeypatch.setattr(os, "getuid", lambda: another)
    with pytest.raises(JobError, match="belongs to another user"):
        LocalCompute(s3_lake).live_jobs()
