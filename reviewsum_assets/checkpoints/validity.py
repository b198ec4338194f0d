"""The one answer to whether a checkpoint is valid; orchestrator, job, merge and status ask here.

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

from reviewsum_assets import places
from reviewsum_assets.checkpoints.files import SummaryRow, decode_rows
from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint, data_version
from reviewsum_assets.lake import Lake

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
