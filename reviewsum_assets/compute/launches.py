"""What the lake remembers of a launch, so that no job is started twice or forgotten.

A launch is noted under ``live_jobs/`` before the job is created, and taken off when its end has
been seen; so whoever looks for live jobs asks the service about few names, however many jobs there
have been.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from reviewsum_assets import lake as places
from reviewsum_assets.compute.base import Launch
from reviewsum_assets.job.job_objects import pipes_context_key, spec_key
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.lake import Lake


class _Owner(BaseModel):
    """The run that waits for a job."""

    model_config = ConfigDict(frozen=True)

    run_id: str


def note_launch(lake: Lake, spec: JobSpec, launch: Launch) -> None:
    """Store what a job is to compute and for which run, before it is created."""
    if launch.pipes_context is not None:
        lake.put(pipes_context_key(spec.name), launch.pipes_context.encode())
    lake.put(spec_key(spec.name), spec.model_dump_json(indent=1).encode())
    note_owner(lake, spec.name, launch.run_id)
    lake.put(_live_key(spec.name), b"")


def note_owner(lake: Lake, job: str, run_id: str) -> None:
    """Store that this run waits for the job now."""
    lake.put(_owner_key(job), _Owner(run_id=run_id).model_dump_json().encode())


def owner(lake: Lake, job: str) -> str | None:
    """The run that waits for a job, or None if none is known."""
    try:
        return _Owner.model_validate_json(lake.get(_owner_key(job)) or b"").run_id or None
    except ValidationError:
        return None


def note_end(lake: Lake, job: str) -> None:
    """Take a job off the list of those that may be live."""
    lake.delete(_live_key(job))


def noted_jobs(lake: Lake) -> list[JobSpec]:
    """The specs of the jobs that may be live."""
    prefix = places.LIVE_JOBS
    names = [item.key.removeprefix(f"{prefix}/") for item in lake.list(prefix)]
    contents = lake.get_many([spec_key(name) for name in names])
    return [JobSpec.model_validate_json(content) for content in contents if content is not None]


def _live_key(job: str) -> str:
    return f"{places.LIVE_JOBS}/{job}"


def _owner_key(job: str) -> str:
    return f"{places.PROCESSING_JOBS}/{job}/run.json"
