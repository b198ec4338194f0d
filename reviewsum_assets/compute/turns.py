"""Lets starts of jobs on one lake take turns, so that each sees the jobs of those before it.

Jobs that overlap and are not the same have different names, and the service takes both. So looking
for live jobs and creating one have to be one step.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from reviewsum_assets.lake import Lake
from reviewsum_assets.places import JOB_START

_log = logging.getLogger(__name__)

# A start takes seconds: whoever holds the turn for longer was killed, or will see that another
# job computes the same, checkpoint by checkpoint.
_LONGEST_TURN_SECONDS = 30.0
_PAUSE_SECONDS = 0.5


@contextmanager
def turn_to_start(lake: Lake) -> Iterator[None]:
    """Wait for the turn, hold it for the length of a block, and pass it on.

    One that nobody has passed on for half a minute is taken.

    Raises:
        LakeError: the lake cannot be read or written.
    """
    mine = uuid.uuid4().bytes
    _take(lake, mine)
    try:
        yield
    finally:
        if lake.get(JOB_START) == mine:
            lake.delete(JOB_START)


def _take(lake: Lake, mine: bytes) -> None:
    seen: bytes | None = None
    since = 0.0
    while not lake.create(JOB_START, mine):
        holder = lake.get(JOB_START)
        if holder == mine:
            return  # the answer to a first request was lost
        # By this clock alone: that of the holder may show another time.
        if holder != seen:
            seen, since = holder, time.monotonic()
        elif time.monotonic() - since > _LONGEST_TURN_SECONDS:
            _log.warning("somebody began to start a job and was killed: it is somebody else's turn")
            lake.delete(JOB_START)
        time.sleep(_PAUSE_SECONDS)
