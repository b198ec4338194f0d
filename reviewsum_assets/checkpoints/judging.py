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
from datetime import datetime
from itertools import groupby

from reviewsum_assets import lake as places
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.lake import Lake, LakeObject

_BLOCK = 100
_DIGITS = 12


@dataclass(frozen=True)
class Judgement:
    """What is known of a plan's checkpoints.

    ``blocks`` holds, by a hash of what is listed of a block, the numbers of its checkpoints that
    are there and not valid: give it to the next call. ``unread`` counts checkpoints for which time
    did not suffice; ``newest`` is when the last object of a checkpoint was written.
    """

    pending: tuple[PlannedCheckpoint, ...]
    unread: int
    blocks: Mapping[str, Sequence[int]]
    newest: datetime | None


def judge(lake: Lake, plan: Plan, known: Mapping[str, Sequence[int]], seconds: float) -> Judgement:
    """Judge a plan's checkpoints; begins to read blocks for so many seconds, at least one."""
    listed = {
        item.key: item
        for prefix in (places.CHECKPOINT_MANIFESTS, places.CHECKPOINT_FILES)
        for item in lake.list(prefix)
    }
    deadline = time.monotonic() + seconds
    pending: list[PlannedCheckpoint] = []
    blocks: dict[str, Sequence[int]] = {}
    unread = 0
    newest: datetime | None = None
    has_read = False
    for _, members in groupby(plan.checkpoints, lambda planned: planned.number // _BLOCK):
        block = [(planned, _objects(listed, planned)) for planned in members]
        pending.extend(planned for planned, objects in block if not objects)
        there = [(planned, objects) for planned, objects in block if objects]
        if not there:
            continue
        written = max(item.last_modified for _, objects in there for item in objects)
        newest = written if newest is None else max(newest, written)
        digest = _digest(there)
        if digest in known:
            invalid = known[digest]
        elif has_read and time.monotonic() > deadline:
            unread += len(there)
            continue
        else:
            has_read = True
            states = check_checkpoints(lake, [planned for planned, _ in there])
            invalid = [state.planned.number for state in states if not state.is_valid]
        blocks[digest] = invalid
        pending.extend(planned for planned, _ in there if planned.number in invalid)
    ordered = tuple(sorted(pending, key=lambda planned: planned.number))
    return Judgement(ordered, unread, blocks, newest)


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
