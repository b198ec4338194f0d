"""Lease on a job that runs on one of several hosts that share a lake on S3.

Other hosts cannot see the job's process; they consider the job live as long as its lease changes.
A host that takes over leaves a mark first, so that a process that was suspended ends itself when
it resumes.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from reviewsum_assets.errors import LakeError
from reviewsum_assets.storage import locks, places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import taken_over_key

_log = logging.getLogger("reviewsum.job")


def leases(lake: Lake) -> dict[str, bool]:
    """Names of the jobs with a lease; True: it is renewed, by the clock of the lake's store."""
    listed = lake.list(places.JOB_LEASES)
    stale = lake.now() - timedelta(seconds=locks.STALE_SECONDS) if listed else None
    return {
        item.key.removeprefix(f"{places.JOB_LEASES}/"): stale is None or item.last_modified >= stale
        for item in listed
    }


def renew(lake: Lake, job: str) -> None:
    """Rewrite a job's lease: the host and a content that differs every time."""
    lake.put(_key(job), locks.fresh_content(socket.gethostname()))


def lease_content(lake: Lake, job: str) -> bytes | None:
    """The content of a lease, or None if there is none."""
    return lake.get(_key(job))


def release(lake: Lake, job: str) -> None:
    """Remove the lease of a job that has ended."""
    lake.delete(_key(job))


def take_over(lake: Lake, job: str) -> None:
    """Mark a job that has not renewed its lease as taken over, and remove the lease."""
    _log.warning(
        "job %s has not renewed its lease for %.0f s: it has died", job, locks.STALE_SECONDS
    )
    lake.create(taken_over_key(job), b"")
    release(lake, job)


def is_taken_over(lake: Lake, job: str) -> bool:
    """Whether another host has considered this job dead."""
    return lake.head(taken_over_key(job)) is not None


@contextmanager
def held_lease(lake: Lake, job: str, on_loss: Callable[[], None]) -> Iterator[None]:
    """Renew a job's lease for the length of a block.

    Args:
        lake: Lake that the hosts share.
        job: Job that this process runs.
        on_loss: Called in another thread once another host has taken over.
    """

    def renew_unless_lost() -> bool:
        if is_taken_over(lake, job):
            _log.warning("job %s was taken over by another host: ending", job)
            on_loss()
            return False
        renew(lake, job)
        return True

    try:
        with locks.renewing(renew_unless_lost, f"the lease of job {job}"):
            yield
    finally:
        try:
            release(lake, job)
        except LakeError as error:  # other hosts wait until it is stale
            _log.warning("cannot release the lease of job %s: %s", job, error)


def _key(job: str) -> str:
    return f"{places.JOB_LEASES}/{job}"
