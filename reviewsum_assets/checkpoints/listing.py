"""What lies on the lake for a plan, told by listings alone: what is there, and what changed.

At 10,000 checkpoints a listing takes seconds and reading takes minutes. So whoever looks often
keeps the digests of the last listing, and reads only the groups of checkpoints that changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from reviewsum_assets import places
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.lake import Lake, LakeObject

MERGED = "merged"
# So that the digests of 10,000 checkpoints are as short as a cursor has to be.
_CHECKPOINTS_IN_A_GROUP = 100
_DIGEST_CHARS = 12


@dataclass(frozen=True)
class Listing:
    """Checkpoints with manifest and CSV, and a digest of each group and of the merged table."""

    present: frozenset[int]
    digests: Mapping[str, str]


def group_of(number: int) -> str:
    """The group whose digest covers a checkpoint."""
    return str(number // _CHECKPOINTS_IN_A_GROUP)


def finished_numbers(lake: Lake) -> list[int]:
    """Numbers of all checkpoints that have a manifest, of whichever plan."""
    found = (places.checkpoint_number_of(o.key) for o in lake.list(places.CHECKPOINT_MANIFESTS))
    return sorted(number for number in found if number is not None)


def list_checkpoints(lake: Lake) -> dict[str, LakeObject]:
    """Every manifest and CSV of a checkpoint, by key.

    Raises:
        LakeError: the lake cannot be listed.
    """
    prefixes = (places.CHECKPOINT_MANIFESTS, places.CHECKPOINT_FILES)
    return {item.key: item for prefix in prefixes for item in lake.list(prefix)}


def list_lake(lake: Lake, plan: Plan) -> Listing:
    """List what there is of the checkpoints of ``plan``, and of the merged table.

    Raises:
        LakeError: the lake cannot be listed.
    """
    found = {key: f"{item.e_tag} {item.size}" for key, item in list_checkpoints(lake).items()}
    present = set()
    lines: dict[str, list[str]] = {}
    for planned in plan.checkpoints:
        manifest = found.get(places.checkpoint_manifest(planned.number))
        csv = found.get(places.checkpoint_csv(planned.number))
        if manifest and csv:
            present.add(planned.number)
        lines.setdefault(group_of(planned.number), []).append(
            f"{planned.number} {planned.data_version} {manifest} {csv}"
        )
    merged = lake.list(places.SUMMARIZED_DATASET)
    lines[MERGED] = [f"{plan.plan_id}", *(f"{m.key} {m.e_tag} {m.size}" for m in merged)]
    return Listing(frozenset(present), {group: _digest(some) for group, some in lines.items()})


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGEST_CHARS]
