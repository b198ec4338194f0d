"""Hosts with local compute that share a lake on S3 compute each checkpoint once.

A host is an own temporary folder here, where it keeps the processes and locks of its jobs, and an
own Dagster home.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets.compute import Launch
from reviewsum_assets.compute.launches import waiting_runs
from reviewsum_assets.compute.local import LocalCompute, LocalJob, LocalJobElsewhere
from reviewsum_assets.errors import JobError
from reviewsum_assets.job import lease
from reviewsum_assets.job.progress import JobResult, read_result
from reviewsum_assets.job.spec import result_key
from reviewsum_assets.lake_state import verify_lake
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import SmallPipeline, texts, write_dump
from tests.support.sagemaker import incomplete, manifests
from tests.support.waiting import wait_until

PRODUCTS, CHECKPOINTS = 12, 6
SETTINGS = {
    "REVIEWSUM_ENGINE": "transformers",
    "REVIEWSUM_DEVICE": "cpu",
    "REVIEWSUM_MAX_LENGTH": "16",
    "REVIEWSUM_MIN_LENGTH": "4",
    "REVIEWSUM_WORKERS": "1",
    "REVIEWSUM_CHECKPOINT_SIZE": "2",
}


@dataclass
class OtherHost:
    """``reviewsum run`` on a host of its own."""

    folder: Path
    lake: Lake
    dump: Path
    model: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("reviewsum")),
                    *("run", "--dump", str(self.dump), "--model", str(self.model)),
                ],
                cwd=self.folder,
                env={
                    **os.environ,
                    **SETTINGS,
                    "REVIEWSUM_LAKE": self.lake.uri,
                    "TMPDIR": str(self.folder / "tmp"),
                    "DAGSTER_HOME": str(self.folder / "home"),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def job_group(self) -> int:
        """The process group of its job."""
        (pid,) = wait_until(lambda: list(self.folder.glob("tmp/*/*/*/pid")), "a job", 300)
        return int(pid.read_text())

    def end(self) -> None:
        """End all that is left of it, as a failure of the machine would."""
        groups = [int(pid.read_text()) for pid in self.folder.glob("tmp/*/*/*/pid")]
        for group in [*groups, *(process.pid for process in self.processes)]:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for process in self.processes:
            process.wait()


@pytest.fixture
def small(
    instance: dg.DagsterInstance,
    s3_lake: Lake,
    pegasus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> SmallPipeline:
    """This host, with a plan."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dump = write_dump(tmp_path / "dump.csv", texts(PRODUCTS))
    small = SmallPipeline.build(instance, s3_lake, pegasus, dump, engine="transformers")
    assert small.execute("ingest").success
    return small


@pytest.fixture
def other(small: SmallPipeline, tmp_path: Path, pegasus: Path) -> Iterator[OtherHost]:
    """A second host that is given the same."""
    host = OtherHost(tmp_path / "other", small.pipeline.lake, tmp_path / "dump.csv", pegasus)
    yield host
    host.end()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host takes another one for dead soon."""
    monkeypatch.setattr(lease, "STALE_SECONDS", 8.0)


def landed(lake: Lake) -> list[int]:
    """The checkpoints that jobs have computed, as each job says; some twice if that is so."""
    jobs = {item.key.split("/")[1] for item in lake.list(places.PROCESSING_JOBS)}
    results = [result for job in jobs if (result := read_result(lake, job)) is not None]
    return sorted(number for result in results for number in result.landed)


def job_names(lake: Lake) -> set[str]:
    return {item.key.split("/")[1] for item in lake.list(places.PROCESSING_JOBS)}


def test_two_hosts_at_once_compute_each_checkpoint_once(
    small: SmallPipeline, other: OtherHost, tmp_path: Path, pegasus: Path
) -> None:
    lake = small.pipeline.lake
    third = OtherHost(tmp_path / "third", lake, other.dump, pegasus)
    first = other.run()
    group = other.job_group()
    os.killpg(group, signal.SIGSTOP)
    second = third.run()
    try:
        (job,) = job_names(lake)
        wait_until(lambda: len(waiting_runs(lake, job)) == 2, "the second host to wait", 300)
        os.killpg(group, signal.SIGCONT)
    except BaseException:
        third.end()
        raise
    for host, process in ((other, first), (third, second)):
        assert process.wait(timeout=300) == 0, host.output.read_text()
    assert job_names(lake) == {job}
    assert landed(lake) == list(range(1, CHECKPOINTS + 1))
    assert verify_lake(lake) == []
    assert lake.list(places.JOB_LEASES) == []


def test_a_host_takes_over_from_one_that_died_and_computes_the_rest(
    small: SmallPipeline, other: OtherHost, impatient: None
) -> None:
    lake = small.pipeline.lake
    other.run()
    group = other.job_group()
    wait_until(lambda: manifests(lake), "a checkpoint to land", 300)
    os.killpg(group, signal.SIGSTOP)
    other.end()
    before = manifests(lake)
    assert before
    assert small.refresh().success
    after = manifests(lake)
    assert {key: after[key] for key in before} == before
    assert incomplete(lake) == []
    assert set(landed(lake)) == set(range(1, CHECKPOINTS + 1)) - numbers(before)
    assert lake.list(places.JOB_LEASES) == []


def numbers(found: Iterable[str]) -> set[int | None]:
    return {places.checkpoint_number_of(key) for key in found}


def test_a_job_that_was_suspended_and_taken_over_ends_itself(
    small: SmallPipeline, other: OtherHost, impatient: None
) -> None:
    lake = small.pipeline.lake
    run = other.run()
    group = other.job_group()
    (theirs,) = job_names(lake)
    wait_until(lambda: lease.lease_content(lake, theirs), "the lease", 60)
    os.killpg(group, signal.SIGSTOP)
    assert small.refresh().success
    assert lease.is_taken_over(lake, theirs)
    before = manifests(lake)
    os.killpg(group, signal.SIGCONT)
    # Its own run goes on with what this host has computed.
    assert run.wait(timeout=300) == 0, other.output.read_text()
    assert {key: found for key, found in manifests(lake).items() if key in before} == before
    assert len(set(landed(lake))) == len(landed(lake))
    assert lake.list(places.JOB_LEASES) == []


def held(small: SmallPipeline, name: str = "theirs") -> LocalJobElsewhere:
    """A job of another host, of which there is no more than what lies on the lake."""
    lake = small.pipeline.lake
    spec = small.job_spec().model_copy(update={"name": name})
    lake.put(f"{places.PROCESSING_JOBS}/{name}/spec.json", spec.model_dump_json().encode())
    lease.renew(lake, name)
    (job,) = LocalCompute(lake).live_jobs()
    assert isinstance(job, LocalJobElsewhere)
    return job


def test_a_job_elsewhere_is_attached_to_and_cannot_be_stopped(small: SmallPipeline) -> None:
    lake, job = small.pipeline.lake, held(small)
    found = small.pipeline.compute.start(small.job_spec(), Launch(run_id="waits"))
    assert (found.spec, found.attached, found.poll()) == (job.spec, True, None)
    assert waiting_runs(lake, "theirs") == ["waits"]
    assert found.links["job_host"]
    with pytest.raises(JobError, match=r"runs on another host, .*To fix: stop it there"):
        found.stop()
    result = JobResult(landed=(), already_valid=(), failed={2: "x"}, stopped=False, seconds=1.0)
    lake.put(result_key("theirs", "local"), result.model_dump_json().encode())
    lease.release(lake, "theirs")
    end = found.poll()
    assert end is not None and "1 checkpoints failed" in str(end.failure)


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_a_lease_without_a_spec_is_no_job(small: SmallPipeline, content: bytes | None) -> None:
    lake = small.pipeline.lake
    held(small)
    key = f"{places.PROCESSING_JOBS}/theirs/spec.json"
    if content is None:
        lake.delete(key)
    else:
        lake.put(key, content)
    assert LocalCompute(lake).live_jobs() == []


def test_a_lease_that_is_not_renewed_is_removed_by_whatever_looks(
    small: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = small.pipeline.lake
    held(small)
    monkeypatch.setattr(lease, "STALE_SECONDS", -2.0)  # S3 counts in whole seconds
    assert LocalCompute(lake).live_jobs() == []
    assert lake.list(places.JOB_LEASES) == []
    assert lease.is_taken_over(lake, "theirs")


def test_a_job_of_this_host_that_was_killed_is_known_as_dead_at_once(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    job = small.pipeline.compute.start(small.job_spec(), Launch())
    assert isinstance(job, LocalJob)
    os.killpg(int((job.directory / "pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not job.is_live, "the job to end", 60)
    assert lake.list(places.JOB_LEASES)
    assert LocalCompute(lake).live_jobs() == []
    assert lake.list(places.JOB_LEASES) == []
    again = small.pipeline.compute.start(small.job_spec(), Launch())
    assert again.spec.name != job.spec.name
    assert wait_until(again.poll, "the job to end", 300).failure is None
