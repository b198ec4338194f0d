"""Lease on a job that runs on one of several hosts that share a lake on S3.

The job's process writes a small object again every few seconds. Other hosts take the job for live
as long as that object changes; they cannot see the process itself. A host that takes over leaves a
mark first, so that a process that was suspended ends itself when it goes on.
"""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from reviewsum_assets.errors import LakeError
from reviewsum_assets.job.spec import taken_over_key
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

RENEW_SECONDS = 5.0
STALE_SECONDS = 60.0

_log = logging.getLogger("reviewsum.job")


def leases(lake: Lake) -> dict[str, bool]:
    """Names of the jobs with a lease; True: it is renewed, by the clock of the lake's store."""
    listed = lake.list(places.JOB_LEASES)
    stale = lake.now() - timedelta(seconds=STALE_SECONDS) if listed else None
    return {
        item.key.removeprefix(f"{places.JOB_LEASES}/"): stale is None or item.last_modified >= stale
        for item in listed
    }


def renew(lake: Lake, job: str) -> None:
    """Write a job's lease; the content is different each time."""
    lake.put(_key(job), f"{socket.gethostname()} {uuid.uuid4().hex}".encode())


def lease_content(lake: Lake, job: str) -> bytes | None:
    """What the lease says: the host and what changes; None if there is none."""
    return lake.get(_key(job))


def release(lake: Lake, job: str) -> None:
    """Remove the lease of a job that has ended."""
    lake.delete(_key(job))


def take_over(lake: Lake, job: str) -> None:
    """End the lease of a job that has not renewed it, and mark the job as taken over."""
    _log.warning("job %s has not renewed its lease for %.0f s: it has died", job, STALE_SECONDS)
    lake.create(taken_over_key(job), b"")
    release(lake, job)


def is_taken_over(lake: Lake, job: str) -> bool:
    """Whether another host has taken this job for dead."""
    return lake.head(taken_over_key(job)) is not None


@contextmanager
def held_lease(lake: Lake, job: str, on_loss: Callable[[], None]) -> Iterator[None]:
    """Renew a job's lease for the length of a block.

    Args:
        lake: shared by the hosts.
        job: that this process runs.
        on_loss: called, in another thread, once another host has taken over.
    """
    ended = threading.Event()

    def keep() -> None:
        while True:
            try:
                if is_taken_over(lake, job):
                    _log.warning("job %s was taken over by another host: ending", job)
                    on_loss()
                    return
                renew(lake, job)
            except LakeError as error:
                # If it goes on, another host takes over, which is then noticed.
                _log.warning("the lease of job %s cannot be renewed: %s", job, error)
            if ended.wait(RENEW_SECONDS):
                return

    renewer = threading.Thread(target=keep, name="job lease", daemon=True)
    renewer.start()
    try:
        yield
    finally:
        ended.set()
        renewer.join()
        try:
            release(lake, job)
        except LakeError as error:  # other hosts wait until it is stale
            _log.warning("the lease of job %s cannot be released: %s", job, error)


def _key(job: str) -> str:
    return f"{places.JOB_LEASES}/{job}"
