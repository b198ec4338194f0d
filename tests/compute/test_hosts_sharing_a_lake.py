"""Hosts with local compute that share a lake on S3 compute each checkpoint once.

A host is an own temporary folder here, with the processes and locks of its jobs, and an own Dagster
home.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets.compute import Launch
from reviewsum_assets.compute.launches import JobElsewhere, waiting_runs
from reviewsum_assets.compute.local import LocalCompute, LocalJob
from reviewsum_assets.errors import JobError
from reviewsum_assets.job import lease
from reviewsum_assets.job.progress import JobResult, read_result
from reviewsum_assets.lake_state import verify_lake
from reviewsum_assets.storage import locks, places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import result_key, spec_key
from tests.compute.conftest import Orchestrator
from tests.support.pipeline import SmallPipeline, texts, write_dump
from tests.support.sagemaker import incomplete, manifests
from tests.support.waiting import wait_until

PRODUCTS, CHECKPOINTS = 12, 6


class OtherHost(Orchestrator):
    """A host of which all processes can be ended."""

    process: subprocess.Popen[bytes]

    def run(self) -> int:
        """Start it, and return the process group of its job."""
        self.process = self.start()
        (group,) = wait_until(self._groups, "a job", 300)
        return group

    def end(self) -> None:
        """End all that is left of it, as a failure of the machine would."""
        for group in [*self._groups(), self.process.pid]:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self.process.wait()

    def _groups(self) -> list[int]:
        """The process groups of its jobs; a folder may be removed while it is looked at."""
        while True:
            with suppress(FileNotFoundError):
                found = [pid.read_text() for pid in self.folder.glob("tmp/*/*/*/pid")]
                return [int(text) for text in found if text]


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
def hosts(small: SmallPipeline, tmp_path: Path, pegasus: Path) -> Iterator[list[OtherHost]]:
    """Two other hosts with the same input."""
    engine, lake = {"engine": "transformers"}, small.pipeline.lake
    dump = tmp_path / "dump.csv"
    made = [OtherHost(tmp_path / name, pegasus, lake, dump, engine) for name in ("a", "b")]
    yield made
    for host in made:
        with suppress(AttributeError):  # never started
            host.end()


def job_names(lake: Lake) -> set[str]:
    return {item.key.split("/")[1] for item in lake.list(places.PROCESSING_JOBS)}


def landed(lake: Lake) -> list[int]:
    """The checkpoints that jobs have computed, as each job says; some twice if that is so."""
    results = [result for job in job_names(lake) if (result := read_result(lake, job)) is not None]
    return sorted(number for result in results for number in result.landed)


def test_two_hosts_at_once_compute_each_checkpoint_once(
    small: SmallPipeline, hosts: list[OtherHost]
) -> None:
    lake, (first, second) = small.pipeline.lake, hosts
    group = first.run()
    os.killpg(group, signal.SIGSTOP)
    second.process = second.start()
    (job,) = job_names(lake)
    wait_until(lambda: len(waiting_runs(lake, job)) == 2, "the second host to wait", 300)
    os.killpg(group, signal.SIGCONT)
    for host in hosts:
        host.finish(host.process)
    assert job_names(lake) == {job}
    assert landed(lake) == list(range(1, CHECKPOINTS + 1))
    assert verify_lake(lake) == []
    assert lake.list(places.JOB_LEASES) == []


def test_a_host_takes_over_from_one_that_died_and_computes_the_rest(
    small: SmallPipeline, hosts: list[OtherHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 8.0)  # for this host
    lake, other = small.pipeline.lake, hosts[0]
    other.run()
    wait_until(lambda: manifests(lake), "a checkpoint to land", 300)
    other.end()
    before = manifests(lake)
    assert small.refresh().success
    assert before.items() <= manifests(lake).items()
    assert incomplete(lake) == []
    numbers = {places.checkpoint_number_of(key) for key in before}
    assert set(landed(lake)) == set(range(1, CHECKPOINTS + 1)) - numbers
    assert lake.list(places.JOB_LEASES) == []


def test_a_job_that_was_suspended_and_taken_over_ends_itself(
    small: SmallPipeline, hosts: list[OtherHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 8.0)  # for this host
    lake, other = small.pipeline.lake, hosts[0]
    group = other.run()
    (theirs,) = job_names(lake)
    wait_until(lambda: lease.lease_content(lake, theirs), "the lease", 60)
    os.killpg(group, signal.SIGSTOP)
    assert small.refresh().success
    assert lease.is_taken_over(lake, theirs)
    before = manifests(lake)
    os.killpg(group, signal.SIGCONT)
    # Its own run continues with the checkpoints that this host has computed.
    other.finish(other.process)
    assert before.items() <= manifests(lake).items()
    assert len(set(landed(lake))) == len(landed(lake))
    assert lake.list(places.JOB_LEASES) == []


@pytest.fixture
def theirs(small: SmallPipeline) -> JobElsewhere:
    """A job of another host, of which only the objects on the lake exist."""
    lake = small.pipeline.lake
    spec = small.job_spec().model_copy(update={"name": "theirs"})
    lake.put(spec_key("theirs"), spec.model_dump_json().encode())
    lease.renew(lake, "theirs")
    (job,) = LocalCompute(lake).live_jobs()
    assert isinstance(job, JobElsewhere)
    return job


def test_a_job_elsewhere_is_attached_to_and_cannot_be_stopped(
    small: SmallPipeline, theirs: JobElsewhere
) -> None:
    lake = small.pipeline.lake
    found = small.pipeline.compute.start(small.job_spec(), Launch(run_id="waits"))
    assert (found.spec, found.attached, found.poll()) == (theirs.spec, True, None)
    assert waiting_runs(lake, "theirs") == ["waits"]
    assert found.links["job_host"]
    with pytest.raises(JobError, match=r"runs on another host, .*To fix: stop it there"):
        found.stop()
    result = JobResult(landed=(), already_valid=(), failed={2: "x"}, stopped=False, seconds=1.0)
    lake.put(result_key("theirs", "local"), result.model_dump_json().encode())
    lease.release(lake, "theirs")
    end = found.poll()
    assert end is not None and "1 checkpoints failed" in str(end.failure)


def test_a_lease_without_a_spec_or_that_is_not_renewed_is_no_job(
    theirs: JobElsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = theirs.lake
    for content in (b"", b"{"):
        lake.put(spec_key("theirs"), content)
        assert LocalCompute(lake).live_jobs() == []
    lake.delete(spec_key("theirs"))
    assert LocalCompute(lake).live_jobs() == []
    monkeypatch.setattr(locks, "STALE_SECONDS", -2.0)  # S3 counts in whole seconds
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
    again.stop()
