"""Lock on starting jobs on a lake: looking for live jobs and creating one are one step.

Jobs that overlap and are not the same have different names, and SageMaker accepts both. So of two
processes that start jobs, the second one has to see the job of the first.

The lock is a chain of objects, ``job_starts/1``, ``2``, ...: the creator of the highest number
holds it, since the lake creates an object for one writer only. The holder rewrites its object every
few seconds. Other processes take the lock, by creating the next number, once the highest one says
that it was released, or has not changed for a minute of their own clocks. A holder that was
suspended for so long finds a higher number than its own.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from reviewsum_assets.compute.base import Launch
from reviewsum_assets.errors import LakeError
from reviewsum_assets.job.spec import JobSpec, pipes_context_key, spec_key
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import JOB_STARTS

_log = logging.getLogger(__name__)

_RENEW_SECONDS = 5.0
_STALE_SECONDS = 60.0
_POLL_SECONDS = 0.5
# A holder that hangs must not hold up the lake for ever; a start takes seconds, or minutes where
# the API is slow.
_LONGEST_SECONDS = 900.0
_TELL_AFTER_SECONDS = 30.0
_RELEASED = b"released"


class StartLock:
    """The lock as its holder has it."""

    def __init__(self, lake: Lake, number: int) -> None:
        self._lake = lake
        self._number = number
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="start lock", daemon=True)
        self._renewer.start()

    def is_held(self) -> bool:
        """Whether no other process has taken the lock.

        Raises:
            LakeError: the lake cannot be read.
        """
        return max(_numbers(self._lake), default=0) == self._number

    def release(self) -> None:
        """Let the next process have the lock at once; what was before this holder is removed."""
        self._ended.set()
        self._renewer.join()
        try:
            self._lake.put(_key(self._number), _RELEASED)
            for number in _numbers(self._lake):
                if number < self._number:
                    self._lake.delete(_key(number))
        except LakeError as error:
            # The next process takes it within a minute.
            _log.warning("the lock on starting jobs cannot be released: %s", error)

    def _renew(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(_RENEW_SECONDS):
            if time.monotonic() - started > _LONGEST_SECONDS:
                return
            try:
                self._lake.put(_key(self._number), _fresh())
            except LakeError as error:
                # If it goes on, another process takes the lock, which the holder then notices.
                _log.warning("the lock on starting jobs cannot be renewed: %s", error)


@contextmanager
def start_lock(lake: Lake) -> Iterator[StartLock]:
    """Wait for the lock and hold it for the length of a block.

    Raises:
        LakeError: the lake cannot be read or written.
    """
    lock = StartLock(lake, _acquire(lake))
    try:
        yield lock
    finally:
        lock.release()


def _acquire(lake: Lake) -> int:
    """Create the next number once the highest one is free; returns it."""
    seen: tuple[int, bytes | None] | None = None
    begun = since = time.monotonic()
    is_told = False
    while True:
        looked = time.monotonic()
        newest = max(_numbers(lake), default=0)
        content = lake.get(_key(newest)) if newest else _RELEASED
        # By this clock alone: that of the holder may show another time.
        if (newest, content) != seen:
            seen, since = (newest, content), time.monotonic()
        is_stale = looked - since > _STALE_SECONDS
        if content == _RELEASED or is_stale:
            mine, content = newest + 1, _fresh()
            # The answer to a first request may be lost, and the second then finds the object.
            # And a number that was removed could be created again: only the highest one counts.
            created = lake.create(_key(mine), content) or lake.get(_key(mine)) == content
            if created and max(_numbers(lake), default=0) == mine:
                if is_stale:
                    _log.warning("the lock on starting jobs was taken: its holder went silent")
                return mine
        if not is_told and looked - begun > _TELL_AFTER_SECONDS:
            is_told = True
            _log.warning("another process is starting a job on this lake: waiting for it")
        time.sleep(_POLL_SECONDS)


def _fresh() -> bytes:
    return uuid.uuid4().hex.encode()


def _numbers(lake: Lake) -> list[int]:
    names = (item.key.rpartition("/")[2] for item in lake.list(JOB_STARTS))
    return [int(name) for name in names if name.isdecimal()]


def _key(number: int) -> str:
    return f"{JOB_STARTS}/{number}"


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
