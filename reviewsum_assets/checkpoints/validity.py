"""Judge checkpoints: orchestrator, job, merge and status ask here whether one is valid.

A checkpoint is valid when its manifest exists and parses, names the CSV's SHA-256 and size and
the CSV matches, product ids summarized and quarantined are those planned, and its data version
is the plan's. Dagster's state and a job's exit code decide nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from reviewsum_assets.checkpoints.manifest import Manifest, SummaryRow, decode_rows
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint, data_version
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake, LakeObject

_DIGEST_CHARS = 12
_PARALLEL_CHECKS = 16


def finished_numbers(lake: Lake) -> list[int]:
    """Numbers of all checkpoints that have a manifest, of whichever plan."""
    found = (places.checkpoint_number_of(o.key) for o in lake.list(places.CHECKPOINT_MANIFESTS))
    return sorted(number for number in found if number is not None)


def checkpoint_digests(lake: Lake) -> dict[int, str]:
    """Return a digest of the e_tags and sizes of manifest and CSV, by checkpoint number.

    One listing tells that none of 10,000 checkpoints has changed; reading them takes minutes.
    Checkpoints of which a file is missing are left out.

    Raises:
        LakeError: the lake cannot be listed.
    """
    manifests, files = (
        {places.checkpoint_number_of(item.key): item for item in lake.list(prefix)}
        for prefix in (places.CHECKPOINT_MANIFESTS, places.CHECKPOINT_FILES)
    )
    return {
        number: _digest([manifests[number], files[number]])
        for number in manifests.keys() & files.keys()
        if number is not None
    }


def _digest(items: Iterable[LakeObject]) -> str:
    lines = "\n".join(f"{item.e_tag} {item.size}" for item in items)
    return hashlib.sha256(lines.encode()).hexdigest()[:_DIGEST_CHARS]


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
