"""Finds what of a plan is damaged or gone, and mends what can be mended.

Document and table have a copy each. A checkpoint's grouped reviews have none: complete, it needs
them no more; pending, it is lost, and its products are planned again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from reviewsum_assets import places
from reviewsum_assets.checkpoints.plan import (
    Plan,
    PlannedCheckpoint,
    current_plan,
    table_content,
)
from reviewsum_assets.checkpoints.validity import check_checkpoint
from reviewsum_assets.lake import Lake


def plan_problems(lake: Lake, plan: Plan) -> list[str]:
    """What is damaged of the current plan, a sentence each; reads every checkpoint's input."""
    damaged = [f"{key} is damaged or missing" for key in _damaged_twins(lake, plan)]
    inputs = [
        f"{planned.partition_key}: its grouped reviews {planned.input_key} are not those planned"
        for planned in damaged_inputs(lake, plan)
    ]
    return damaged + inputs


def damaged_inputs(lake: Lake, plan: Plan) -> list[PlannedCheckpoint]:
    """The checkpoints whose grouped reviews are there and not those planned; reads them all."""
    return [
        planned
        for planned, content in _inputs(lake, plan.checkpoints)
        if content is not None and not _is_input_of(planned, content)
    ]


def mend_plan(lake: Lake) -> None:
    """Give the current plan's document and table their twins back.

    Raises:
        PlanError: both twins of one are damaged.
    """
    plan = current_plan(lake)
    if plan is not None:
        for key, content in _damaged_twins(lake, plan).items():
            lake.put(key, content)


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


def _damaged_twins(lake: Lake, plan: Plan) -> dict[str, bytes]:
    """What should lie at each place of the current plan where something else does, or nothing."""
    document, table = places.plan_document(plan.sequence), places.plan_table(plan.plan_id)
    twins = {key: lake.get(key) for key in (document, places.plan_copy(document))}
    # One of them it is: the plan was read from it.
    whole = next(found for found in twins.values() if _is_document_of(plan, found))
    damaged = {key: whole for key, found in twins.items() if whole and found != whole}
    content = table_content(lake, plan)
    tables = (table, places.plan_copy(table))
    return damaged | {key: content for key in tables if lake.get(key) != content}


def _is_document_of(plan: Plan, content: bytes | None) -> bool:
    try:
        return Plan.unsealed(content or b"") == plan
    except ValueError:
        return False


def _inputs(
    lake: Lake, checkpoints: Sequence[PlannedCheckpoint]
) -> Iterator[tuple[PlannedCheckpoint, bytes | None]]:
    """Checkpoints with the bytes of their grouped reviews, some at a time."""
    found = lake.contents(planned.input_key for planned in checkpoints)
    yield from (
        (planned, content) for planned, (_, content) in zip(checkpoints, found, strict=True)
    )


def _is_input_of(planned: PlannedCheckpoint, content: bytes) -> bool:
    return planned.input_sha256 in ("", hashlib.sha256(content).hexdigest())
