"""What lies on the lake for a plan, told by listings alone: what is there, and what changed.

At 10,000 checkpoints a listing takes seconds and reading takes minutes. So whoever looks often
keeps the digests of the last listing, and reads only the groups of checkpoints that changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from reviewsum_assets.checkpoints.manifest import Manifest, SummaryRow, decode_rows
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint, data_version
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake, LakeObject

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


_PARALLEL_CHECKS = 16


class Validity(str, Enum):
    """A checkpoint's state as the lake tells it."""

    VALID = "valid"
    MISSING = "missing"
    INVALID = "invalid"


@dataclass(frozen=True)
class CheckpointState:
    """What the lake holds for a planned checkpoint; manifest and rows only if it is valid."""

    planned: PlannedCheckpoint
    validity: Validity
    reason: str = ""
    manifest: Manifest | None = None
    rows: tuple[SummaryRow, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether nothing is left to do for this checkpoint."""
        return self.validity is Validity.VALID

    def describe(self) -> str:
        """``checkpoint_00003 (missing: no manifest)`` for messages."""
        return f"{self.planned.partition_key} ({self.validity.value}: {self.reason})"


def check_checkpoint(lake: Lake, planned: PlannedCheckpoint) -> CheckpointState:
    """Read a checkpoint's manifest and CSV and judge them against the plan."""
    content = lake.get(places.checkpoint_manifest(planned.number))
    if content is None:
        return CheckpointState(planned, Validity.MISSING, "no manifest")
    try:
        manifest = Manifest.unsealed(content)
    except ValueError:
        return CheckpointState(planned, Validity.INVALID, "the manifest cannot be read")
    csv_content = lake.get(places.checkpoint_csv(planned.number))
    try:
        rows = _matching_rows(planned, manifest, csv_content)
    except ValueError as error:
        return CheckpointState(planned, Validity.INVALID, str(error))
    return CheckpointState(planned, Validity.VALID, manifest=manifest, rows=rows)


def check_checkpoints(
    lake: Lake, planned: Iterable[PlannedCheckpoint]
) -> Iterator[CheckpointState]:
    """Judge several checkpoints side by side, in their order, a bounded number at a time."""
    with ThreadPoolExecutor(_PARALLEL_CHECKS) as pool:
        for some in _slices(list(planned), 4 * _PARALLEL_CHECKS):
            yield from pool.map(lambda one: check_checkpoint(lake, one), some)


def _matching_rows(
    planned: PlannedCheckpoint, manifest: Manifest, csv_content: bytes | None
) -> tuple[SummaryRow, ...]:
    """The CSV's rows if all agrees.

    Raises:
        ValueError: what does not agree.
    """
    if csv_content is None:
        raise ValueError("the manifest is there, its CSV is not")
    if len(csv_content) != manifest.csv_bytes:
        raise ValueError(
            f"the CSV has {len(csv_content)} bytes, its manifest says {manifest.csv_bytes}"
        )
    if hashlib.sha256(csv_content).hexdigest() != manifest.csv_sha256:
        raise ValueError("the CSV's SHA-256 is not the one in its manifest")
    if data_version(manifest.inputs) != planned.data_version:
        raise ValueError("it holds other products, or other input, than the plan")
    if manifest.data_version != planned.data_version or manifest.checkpoint != planned.number:
        raise ValueError("its manifest was written for another checkpoint or data version")
    rows = tuple(decode_rows(csv_content))
    if Counter(row.product_id for row in rows) != Counter(p.product_id for p in manifest.products):
        raise ValueError("the CSV's products are not those its manifest lists")
    return rows


def _slices(items: Sequence[PlannedCheckpoint], size: int) -> Iterator[Sequence[PlannedCheckpoint]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


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
