"""Which checkpoints are still to be computed, by listings, reading only what has changed.

Judging 10,000 checkpoints reads 20,000 objects. A block of checkpoints whose objects are listed
with the sizes and tags with which they were judged is not read again; what is not listed is not
there. The verdict on what is read is that of ``validity``, as everywhere.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from reviewsum_assets import places
from reviewsum_assets.checkpoints.listing import content_digest, group_of, list_checkpoints
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.lake import Lake, LakeObject

_DIGITS = 12


@dataclass(frozen=True)
class Judgement:
    """What is known of a plan's checkpoints.

    ``blocks`` holds, by a hash of what is listed of a block, the numbers of its checkpoints that
    are there and not valid: give it to the next call. ``unread`` counts checkpoints for which time
    did not suffice; ``content`` is the listing's ``content_digest``.
    """

    pending: tuple[PlannedCheckpoint, ...]
    unread: int
    blocks: Mapping[str, Sequence[int]]
    content: str


def judge(lake: Lake, plan: Plan, known: Mapping[str, Sequence[int]], seconds: float) -> Judgement:
    """Judge a plan's checkpoints; begins to read blocks for so many seconds, at least one."""
    listed = list_checkpoints(lake)
    reader = _Reader(lake, known, time.monotonic() + seconds)
    pending: list[PlannedCheckpoint] = []
    blocks: dict[str, Sequence[int]] = {}
    unread = 0
    for _, members in groupby(plan.checkpoints, lambda planned: group_of(planned.number)):
        found = [(planned, _objects(listed, planned)) for planned in members]
        there = [(planned, objects) for planned, objects in found if objects]
        pending.extend(planned for planned, objects in found if not objects)
        digest = _digest(there)
        invalid = reader.invalid(digest, [planned for planned, _ in there])
        if invalid is None:
            unread += len(there)
        elif there:
            blocks[digest] = invalid
            pending.extend(planned for planned, _ in there if planned.number in invalid)
    ordered = tuple(sorted(pending, key=lambda planned: planned.number))
    return Judgement(ordered, unread, blocks, content_digest(listed, plan))


@dataclass
class _Reader:
    """Reads blocks that are not known, until its time is up."""

    lake: Lake
    known: Mapping[str, Sequence[int]]
    deadline: float
    _has_read: bool = False

    def invalid(self, digest: str, block: Sequence[PlannedCheckpoint]) -> Sequence[int] | None:
        """Numbers of the checkpoints that are there and not valid; None if the time is up."""
        if digest in self.known:
            return self.known[digest]
        if not block:
            return ()
        if self._has_read and time.monotonic() > self.deadline:
            return None
        self._has_read = True
        states = check_checkpoints(self.lake, block)
        return [state.planned.number for state in states if not state.is_valid]


def _objects(
    listed: Mapping[str, LakeObject], planned: PlannedCheckpoint
) -> tuple[LakeObject, ...]:
    """Manifest and CSV of a checkpoint, or nothing where one is not there."""
    keys = (places.checkpoint_manifest(planned.number), places.checkpoint_csv(planned.number))
    found = tuple(listed[key] for key in keys if key in listed)
    return found if len(found) == len(keys) else ()


def _digest(block: Sequence[tuple[PlannedCheckpoint, Sequence[LakeObject]]]) -> str:
    """Hash of what is planned and listed of some checkpoints."""
    content = [
        (
            planned.number,
            planned.data_version,
            [(o.size, o.e_tag, o.last_modified.isoformat()) for o in objects],
        )
        for planned, objects in block
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_DIGITS]
