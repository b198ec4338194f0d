"""Find planned checkpoints whose grouped reviews are damaged or gone.

A complete checkpoint needs them no more; a pending one is lost, and its products are planned again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from reviewsum_assets import places
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import check_checkpoint
from reviewsum_assets.lake import Lake


def plan_problems(lake: Lake, plan: Plan) -> list[str]:
    """What is damaged of the current plan, a sentence each; reads every checkpoint's input."""
    return [
        f"{planned.partition_key}: its grouped reviews {planned.input_key} are not those planned"
        for planned in damaged_inputs(lake, plan)
    ]


def damaged_inputs(lake: Lake, plan: Plan) -> list[PlannedCheckpoint]:
    """The checkpoints whose grouped reviews are there and not those planned; reads them all."""
    return [
        planned
        for planned, content in _inputs(lake, plan.checkpoints)
        if content is not None and not _is_input_of(planned, content)
    ]


def lost_checkpoints(lake: Lake, plan: Plan) -> list[int]:
    """Numbers of the checkpoints that are not valid and whose grouped reviews are not there.

    Reads only what, by the listing, may be one; on S3 no grouped reviews, which may be much.
    """
    listed = {
        item.key
        for prefix in (f"{places.GROUPED_REVIEWS}/plans", places.CHECKPOINT_MANIFESTS)
        for item in lake.list(prefix)
    }
    is_disk = lake.directory is not None
    suspects = [
        planned
        for planned in plan.checkpoints
        if planned.input_key not in listed
        or (is_disk and places.checkpoint_manifest(planned.number) not in listed)
    ]
    return [
        planned.number
        for planned, content in _inputs(lake, suspects)
        if (content is None or not _is_input_of(planned, content))
        and not check_checkpoint(lake, planned).is_valid
    ]


def _inputs(
    lake: Lake, checkpoints: Sequence[PlannedCheckpoint]
) -> Iterator[tuple[PlannedCheckpoint, bytes | None]]:
    """Checkpoints with the bytes of their grouped reviews, some at a time."""
    found = lake.contents(planned.input_key for planned in checkpoints)
    yield from (
        (planned, content) for planned, (_, content) in zip(checkpoints, found, strict=True)
    )


def _is_input_of(planned: PlannedCheckpoint, content: bytes) -> bool:
    return planned.input_sha256 == hashlib.sha256(content).hexdigest()
