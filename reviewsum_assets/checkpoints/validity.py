"""The one judge of checkpoints, for orchestrator, job, merge, and status.

A checkpoint is valid when its manifest exists and parses, the CSV has the SHA-256 and size in it,
product ids summarized and quarantined are those planned, and its data version is that of the plan.
Dagster's state and a job's exit code decide nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice

from reviewsum_assets.checkpoints.manifest import Manifest, SummaryRow, Totals, decode_rows
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
    """A digest of the e_tags and sizes of manifest and CSV, by the number of the checkpoint.

    A listing shows whether any of 10,000 checkpoints changed; reading them takes minutes.
    Checkpoints without one of the files are left out.

    Raises:
        LakeError: the lake cannot be listed.
    """
    manifests, files = (
        {places.checkpoint_number_of(item.key): item for item in lake.list(prefix)}
        for prefix in (places.CHECKPOINT_MANIFESTS, places.CHECKPOINT_FILES)
    )
    return {
        number: _digest(manifests[number], files[number])
        for number in manifests.keys() & files.keys()
        if number is not None
    }


def _digest(*items: LakeObject) -> str:
    lines = "\n".join(f"{item.e_tag} {item.size}" for item in items)
    return hashlib.sha256(lines.encode()).hexdigest()[:_DIGEST_CHARS]


class Validity(StrEnum):
    """A checkpoint's state on the lake."""

    VALID = "valid"
    MISSING = "missing"
    INVALID = "invalid"


@dataclass(frozen=True)
class CheckpointState:
    """A planned checkpoint as judged; with manifest and rows only if it is valid."""

    planned: PlannedCheckpoint
    validity: Validity
    reason: str = ""
    manifest: Manifest | None = None
    rows: tuple[SummaryRow, ...] = ()
    totals: Totals = field(default_factory=Totals)

    @property
    def is_valid(self) -> bool:
        """Whether nothing is left to do for this checkpoint."""
        return self.validity is Validity.VALID

    def describe(self) -> str:
        """``checkpoint_00003 (missing: no manifest)`` for messages."""
        return f"{self.planned.partition_key} ({self.validity.value}: {self.reason})"

    def without_products(self) -> CheckpointState:
        """The same without rows and products, so that 10,000 of them fit in memory."""
        if self.manifest is None:
            return self
        slim = self.manifest.model_copy(update={"products": ()})
        return replace(self, rows=(), manifest=slim, totals=self.manifest.totals)


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
    """Judge several checkpoints in parallel, in their order, a bounded number at a time."""
    left = iter(planned)
    with ThreadPoolExecutor(_PARALLEL_CHECKS) as pool:
        while some := list(islice(left, 4 * _PARALLEL_CHECKS)):
            yield from pool.map(lambda one: check_checkpoint(lake, one), some)


def _matching_rows(
    planned: PlannedCheckpoint, manifest: Manifest, csv_content: bytes | None
) -> tuple[SummaryRow, ...]:
    """The rows of a CSV that agrees with manifest and plan.

    Raises:
        ValueError: names the difference.
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


def damaged_inputs(lake: Lake, plan: Plan) -> list[PlannedCheckpoint]:
    """The checkpoints whose grouped reviews exist and differ from the plan; reads them all."""
    contents = lake.contents(planned.input_key for planned in plan.checkpoints)
    return [
        planned
        for planned, (_, content) in zip(plan.checkpoints, contents, strict=True)
        if content is not None and not _is_input_of(planned, content)
    ]


def lost_checkpoints(lake: Lake, plan: Plan) -> list[int]:
    """Numbers of invalid checkpoints whose grouped reviews are missing or, on a disk, damaged.

    Reads only suspects by the listing: on S3 no grouped reviews, which may be large.
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
    contents = lake.contents(planned.input_key for planned in suspects)
    return [
        planned.number
        for planned, (_, content) in zip(suspects, contents, strict=True)
        if (content is None or not _is_input_of(planned, content))
        and not check_checkpoint(lake, planned).is_valid
    ]


def _is_input_of(planned: PlannedCheckpoint, content: bytes) -> bool:
    return planned.input_sha256 == hashlib.sha256(content).hexdigest()
