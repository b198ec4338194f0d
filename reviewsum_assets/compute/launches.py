"""Notes on the lake about jobs, so that whatever is killed, the next process finds the job.

A job is noted before it is created: its spec, its run, and that it may be live. Jobs of other hosts
are found by their leases.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import ValidationError

from reviewsum_assets.compute.base import JobEnd, Launch, failure_of
from reviewsum_assets.errors import JobError, LakeError
from reviewsum_assets.job import lease
from reviewsum_assets.job.progress import read_result
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.locks import Watch
from reviewsum_assets.storage.places import live_key, pipes_context_key, spec_key, waiting_prefix

_log = logging.getLogger(__name__)


def note_launch(lake: Lake, spec: JobSpec, launch: Launch) -> None:
    """Store a job's spec and its run before it is created."""
    note_run(lake, spec.name, launch)
    lake.put(spec_key(spec.name), spec.model_dump_json(indent=1).encode())
    lake.put(live_key(spec.name), b"")


def note_run(lake: Lake, job: str, launch: Launch) -> None:
    """Store the Pipes context of the run that starts a job, and that the run waits for it."""
    if launch.pipes_context is not None:
        lake.put(pipes_context_key(job), launch.pipes_context.encode())
    note_waiting(lake, job, launch.run_id)


def note_waiting(lake: Lake, job: str, run_id: str) -> None:
    """Store that a run waits for a job from now on."""
    if run_id:
        lake.put(f"{waiting_prefix(job)}/{run_id}", b"")


def waiting_runs(lake: Lake, job: str) -> list[str]:
    """Return every run that has waited for a job; Dagster knows whether it still does."""
    return [item.key.rpartition("/")[2] for item in lake.list(waiting_prefix(job))]


def note_end(lake: Lake, job: str) -> None:
    """Remove a job from the list of those that may be live."""
    lake.delete(live_key(job))


def noted_jobs(lake: Lake) -> list[tuple[JobSpec, datetime]]:
    """Return the jobs that may be live, and when each was noted."""
    noted = {
        item.key.removeprefix(f"{places.LIVE_JOBS}/"): item.last_modified
        for item in lake.list(places.LIVE_JOBS)
    }
    return [(spec, noted[spec.name]) for spec in read_specs(lake, list(noted))]


def read_specs(lake: Lake, jobs: Sequence[str]) -> Iterator[JobSpec]:
    """Read the specs of jobs; log and skip those that cannot be read or name another job."""
    for job, content in zip(jobs, lake.get_many([spec_key(job) for job in jobs]), strict=True):
        try:
            spec = JobSpec.model_validate_json(content or b"")
        except ValidationError as error:
            # Written by another version: it must not keep this one from working.
            _log.warning("cannot read the spec of job %s: %s", job, error)
            continue
        if spec.name == job:
            yield spec
        else:  # a process that looks for jobs may stop them
            _log.warning("ignored the spec of job %s: it names another one, %s", job, spec.name)


@dataclass
class JobElsewhere:
    """A job on another host that shares the lake, followed by its lease."""

    lake: Lake
    spec: JobSpec
    attached: bool = True
    was_stopping: bool = False
    _watch: Watch = field(default_factory=Watch, repr=False)

    @property
    def links(self) -> dict[str, str]:
        """The host, where the log is."""
        content = lease.lease_content(self.lake, self.spec.name) or b""
        host = content.decode(errors="replace").partition(" ")[0]
        return {"job_host": host} if host else {}

    def poll(self) -> JobEnd | None:
        """Return None while its lease is renewed, by the clock of this host alone."""
        looked = time.monotonic()
        try:
            content = lease.lease_content(self.lake, self.spec.name)
            if content is not None:
                if not self._watch.is_stale(content, looked):
                    return None
                lease.take_over(self.lake, self.spec.name)
            result = read_result(self.lake, self.spec.name)
        except LakeError:
            self._watch.restart()
            return None
        # Its host stopped it or died: checkpoints that have not landed are still wanted here.
        return JobEnd(result, None if result is None or result.stopped else failure_of(result))

    def log_tail(self) -> str:
        """Return nothing: the log is on the other host."""
        return ""

    def usd_so_far(self) -> float:
        """Return 0: hosts are not billed per job."""
        return 0.0

    def request_stop(self) -> None:
        """Refuse.

        Raises:
            JobError: Always.
        """
        raise JobError(
            f"job {self.spec.name} cannot be stopped from here: it runs on another host, "
            f"{self.links.get('job_host', '')}. To fix: stop it there"
        )

    stop = request_stop
