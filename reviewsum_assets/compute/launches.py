"""What the lake remembers of a launch, so that no job is started twice or forgotten.

A launch is noted under ``live_jobs/`` before the job is created, and taken off when its end has
been seen; so whoever looks for live jobs asks the service about few names, however many jobs there
have been.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from reviewsum_assets import places
from reviewsum_assets.compute.base import Launch
from reviewsum_assets.job.job_objects import pipes_context_key, spec_key
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.lake import Lake

_log = logging.getLogger(__name__)


def note_launch(lake: Lake, spec: JobSpec, launch: Launch) -> None:
    """Store what a job is to compute and for which run, before it is created."""
    if launch.pipes_context is not None:
        lake.put(pipes_context_key(spec.name), launch.pipes_context.encode())
    lake.put(spec_key(spec.name), spec.model_dump_json(indent=1).encode())
    note_waiting(lake, spec.name, launch.run_id)
    lake.put(_live_key(spec.name), b"")


def note_waiting(lake: Lake, job: str, run_id: str) -> None:
    """Store that this run waits for the job, from now on."""
    if run_id:
        lake.put(f"{_waiting_prefix(job)}/{run_id}", b"")


def waiting_runs(lake: Lake, job: str) -> list[str]:
    """Every run that has waited for a job; whether it still does, Dagster knows."""
    return [item.key.rpartition("/")[2] for item in lake.list(_waiting_prefix(job))]


def note_end(lake: Lake, job: str) -> None:
    """Take a job off the list of those that may be live."""
    lake.delete(_live_key(job))


@dataclass(frozen=True)
class NotedJob:
    """A job that may be live, and when it was noted."""

    spec: JobSpec
    noted_at: datetime


def noted_jobs(lake: Lake) -> list[NotedJob]:
    """The jobs that may be live; one whose spec cannot be read is logged."""
    notes = {
        item.key.removeprefix(f"{places.LIVE_JOBS}/"): item for item in lake.list(places.LIVE_JOBS)
    }
    found = []
    contents = lake.get_many([spec_key(name) for name in notes])
    for (name, note), content in zip(notes.items(), contents, strict=True):
        try:
            spec = JobSpec.model_validate_json(content or b"")
        except ValidationError as error:
            # Written by another version: it must not keep this one from working.
            _log.warning("the spec of job %s cannot be read: %s", name, error)
            continue
        if spec.name == name:
            found.append(NotedJob(spec, note.last_modified))
        else:  # who looks for jobs may stop them
            _log.warning("the spec of job %s names another one, %s: ignored", name, spec.name)
    return found


def _live_key(job: str) -> str:
    return f"{places.LIVE_JOBS}/{job}"


def _waiting_prefix(job: str) -> str:
    return f"{places.PROCESSING_JOBS}/{job}/waiting_runs"
