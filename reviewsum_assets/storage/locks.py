"""Locks between processes of several hosts, which share nothing but a lake.

A holder rewrites an object every few seconds. Other processes consider the holder dead once the
object has not changed for a minute of their own clocks: the clocks of two hosts may differ.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reviewsum_assets.errors import LakeError
from reviewsum_assets.storage.lake import Lake

RENEW_SECONDS = 5.0
STALE_SECONDS = 60.0
_POLL_SECONDS = 0.5
# A holder that hangs must not block the lake forever. Starting a job takes seconds, or minutes
# where the API is slow.
_LONGEST_SECONDS = 900.0
_WARN_AFTER_SECONDS = 30.0
_RELEASED = b"released"

_log = logging.getLogger(__name__)


def fresh_content(label: str = "") -> bytes:
    """Content that differs on every call, after a label."""
    return f"{label} {uuid.uuid4().hex}".encode()


@contextmanager
def renewing(renew: Callable[[], bool], name: str) -> Iterator[None]:
    """Call ``renew`` every few seconds in another thread for the length of a block.

    Args:
        renew: Rewrites the object; returns False to end the renewal.
        name: Name of the object in warnings.
    """
    ended = threading.Event()

    def keep() -> None:
        is_wanted = True
        while is_wanted:
            try:
                is_wanted = renew()
            except LakeError as error:
                # If it persists, another process takes over, which the holder then notices.
                _log.warning("cannot renew %s: %s", name, error)
            is_wanted = is_wanted and not ended.wait(RENEW_SECONDS)

    renewer = threading.Thread(target=keep, name=name, daemon=True)
    renewer.start()
    try:
        yield
    finally:
        ended.set()
        renewer.join()


class Watch:
    """Tells, by this host's clock, whether an object is still being rewritten."""

    def __init__(self) -> None:
        self._seen: object = None
        self._since = time.monotonic()

    def is_stale(self, content: object, read_at: float) -> bool:
        """Whether a content whose reading began at ``read_at`` has not changed for a minute."""
        if content != self._seen:
            self.restart()
            self._seen = content
        return read_at - self._since > STALE_SECONDS

    def restart(self) -> None:
        """Count from now on: an object that cannot be read is not stale."""
        self._since = time.monotonic()


class Lock:
    """A lock as its holder sees it."""

    def __init__(self, lake: Lake, prefix: str, number: int) -> None:
        self._lake = lake
        self._prefix = prefix
        self._number = number

    def is_held(self) -> bool:
        """Whether no other process has taken the lock, as far as the lake can be read."""
        try:
            return max(_numbers(self._lake, self._prefix), default=0) == self._number
        except LakeError as error:
            # The holder may have created something already, which must not be lost for this.
            _log.warning("cannot read lock %s/%d: %s", self._prefix, self._number, error)
            return True


@contextmanager
def exclusive(lake: Lake, prefix: str) -> Iterator[Lock]:
    """Wait for a lock and hold it for the length of a block.

    The lock is a chain of objects, ``prefix/1``, ``2``, ...: the creator of the highest number is
    the holder, since the lake creates an object for one writer only. Other processes take the lock
    by creating the next number once the highest one is released or stale. A holder that was
    suspended meanwhile finds a higher number than its own.

    Raises:
        LakeError: The lake cannot be read or written.
    """
    number = _acquire(lake, prefix)
    begun = time.monotonic()

    def renew() -> bool:
        lake.put(f"{prefix}/{number}", fresh_content())
        return time.monotonic() - begun < _LONGEST_SECONDS

    try:
        with renewing(renew, f"lock {prefix}/{number}"):
            yield Lock(lake, prefix, number)
    finally:
        try:
            lake.put(f"{prefix}/{number}", _RELEASED)
            for earlier in _numbers(lake, prefix):
                if earlier < number:
                    lake.delete(f"{prefix}/{earlier}")
        except LakeError as error:  # the next process takes the lock within a minute
            _log.warning("cannot release lock %s/%d: %s", prefix, number, error)


def _acquire(lake: Lake, prefix: str) -> int:
    """Create the next number once the highest one is free; return it."""
    watch = Watch()
    warn_at = time.monotonic() + _WARN_AFTER_SECONDS
    while True:
        looked = time.monotonic()
        newest = max(_numbers(lake, prefix), default=0)
        content = lake.get(f"{prefix}/{newest}") if newest else _RELEASED
        is_stale = watch.is_stale((newest, content), looked)
        if content == _RELEASED or is_stale:
            mine, content = newest + 1, fresh_content()
            # The answer to a first request may be lost, and the second request then finds the
            # object. A number that was removed could be created again: only the highest counts.
            key = f"{prefix}/{mine}"
            created = lake.create(key, content) or lake.get(key) == content
            if created and max(_numbers(lake, prefix), default=0) == mine:
                if is_stale:
                    _log.warning("took lock %s/%d: its holder stopped renewing it", prefix, newest)
                return mine
        if looked > warn_at:
            warn_at = float("inf")
            _log.warning("waiting for lock %s: another process holds it", prefix)
        time.sleep(_POLL_SECONDS)


def _numbers(lake: Lake, prefix: str) -> list[int]:
    names = (item.key.rpartition("/")[2] for item in lake.list(prefix))
    return [int(name) for name in names if name.isdecimal()]
