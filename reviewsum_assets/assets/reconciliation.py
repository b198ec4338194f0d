"""Brings what Dagster believes into line with what lies on the lake, both ways.

The lake decides. A valid checkpoint that Dagster does not know is adopted: materialized without a
run. One that Dagster believes in and that is gone or invalid is shown as failed. Only a run can
fail a partition, so a run of the job ``summarize`` over it is recorded as failed, with the reason,
and nothing is executed. Partitions that a run is working on are left to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from reviewsum_assets import places
from reviewsum_assets.assets.checkpoint_plan import (
    RANGE_END_TAG,
    RANGE_START_TAG,
    Alignment,
    align_partitions,
    checkpoint_partitions,
)
from reviewsum_assets.assets.merged_reconciliation import MergedChange, reconcile_merged
from reviewsum_assets.assets.partition_metadata import (
    CHUNK_SUMMARIES,
    DATA_VERSION_TAG,
    materialization,
)
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.recorded_failures import RecordedFailures
from reviewsum_assets.checkpoints.listing import MERGED, Listing, group_of, list_lake
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import CheckpointState, check_checkpoints
from reviewsum_assets.errors import first_names
from reviewsum_assets.lake import Lake

# A call with a time limit tells Dagster of no more losses, of which each takes some time.
_LOSSES_AT_ONCE = 50


@dataclass(frozen=True)
class Reconciliation:
    """What had to be told to Dagster.

    ``lost`` come without manifests and rows. ``left`` counts the checkpoints that are still to be
    looked at; ``is_complete`` is whether every planned one is there; ``seen`` is for the next call.
    """

    alignment: Alignment
    adopted: tuple[str, ...]
    lost: tuple[CheckpointState, ...]
    merged: MergedChange
    in_progress: int
    left: int
    is_complete: bool
    seen: Mapping[str, str]

    @property
    def did_nothing(self) -> bool:
        """Whether Dagster and the lake agreed already, as far as this call looked."""
        alignment = self.alignment
        changed = (alignment.added, alignment.retired, self.adopted, self.lost)
        return not any(changed) and not self.merged.is_any

    def told(self) -> list[str]:
        """A sentence on each kind of change, with names and reasons; never empty."""
        told = [
            f"{len(keys)} {what}: {first_names(keys)}"
            for what, keys in (
                ("partitions added", self.alignment.added),
                ("partitions retired", self.alignment.retired),
                ("checkpoints adopted", self.adopted),
                ("checkpoints lost", [state.describe() for state in self.lost]),
            )
            if keys
        ]
        if self.merged.adopted:
            told.append("merged_summaries adopted")
        if self.merged.lost:
            told.append(f"merged_summaries lost: {self.merged.lost}")
        if self.did_nothing and not self.left:
            told.append("Dagster and the lake agree")
        if self.in_progress:
            told.append(f"{self.in_progress} left to runs in progress")
        if self.left:
            told.append(f"{self.left} still to be looked at")
        return told


def reconcile(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    plan: Plan,
    failures: RecordedFailures,
    *,
    seen: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> Reconciliation:
    """Adopt, fail, add and retire until Dagster says what the lake says; a second call is idle.

    Args:
        instance: what believes.
        pipeline: its lake decides.
        plan: the lake's current plan.
        failures: record the runs of lost checkpoints, and of a lost table.
        seen: what the last call returned as such: what has not changed since is not read again.
            None: every checkpoint is read.
        seconds: look at checkpoints for so long, at one at least, and judge the merged table by its
            size. None: as long as it takes.

    Raises:
        LakeError: the lake is out of reach. Nothing is called lost because of that.
    """
    lake = pipeline.lake
    alignment = align_partitions(instance, plan)
    listing = list_lake(lake, plan)
    seen = seen or {}
    beliefs = _Beliefs.of(instance, plan)
    suspects = [c for c in plan.checkpoints if _is_suspect(c, listing, seen, beliefs)]
    # What Dagster does not know comes first, so that no limit keeps it waiting for ever.
    suspects.sort(key=beliefs.is_known)
    deadline = None if seconds is None else time.monotonic() + seconds
    looked_at = 0
    adopted: list[str] = []
    lost: list[CheckpointState] = []
    for state in check_checkpoints(lake, suspects):
        looked_at += 1
        if not state.is_valid and beliefs.is_materialized(state.planned):
            lost.append(state)
        if state.is_valid and not beliefs.is_known(state.planned):
            instance.report_runless_asset_event(
                materialization(pipeline, state, reused=True, adopted=True)
            )
            adopted.append(state.planned.partition_key)
        if deadline is not None and (time.monotonic() > deadline or len(lost) == _LOSSES_AT_ONCE):
            break
    _fail(instance, lake, failures, lost)
    merged = MergedChange()
    if seen.get(MERGED) != listing.digests[MERGED]:
        merged = reconcile_merged(instance, pipeline, plan, failures, thorough=deadline is None)
    left = suspects[looked_at:]
    open_groups = {group_of(planned.number) for planned in left} | (
        {MERGED} if merged.left else set()
    )
    return Reconciliation(
        alignment=alignment,
        adopted=tuple(adopted),
        lost=tuple(lost),
        merged=merged,
        in_progress=sum(beliefs.is_in_progress(planned) for planned in plan.checkpoints),
        left=len(left),
        is_complete=len(listing.present) == len(plan.checkpoints),
        seen={g: digest for g, digest in listing.digests.items() if g not in open_groups},
    )


@dataclass(frozen=True)
class _Beliefs:
    """What Dagster shows of each partition, and which data version it last saw materialized."""

    statuses: Mapping[str, dg.AssetPartitionStatus | None]
    versions: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, instance: dg.DagsterInstance, plan: Plan) -> _Beliefs:
        keys = [planned.partition_key for planned in plan.checkpoints]
        return cls(
            statuses=instance.get_status_by_partition(CHUNK_SUMMARIES, keys, checkpoint_partitions)
            or {},
            # One query; asking for the latest materialization of each would take 10,000.
            versions=instance.event_log_storage.get_latest_tags_by_partition(
                CHUNK_SUMMARIES, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
            ),
        )

    def is_in_progress(self, planned: PlannedCheckpoint) -> bool:
        return self._status(planned) is dg.AssetPartitionStatus.IN_PROGRESS

    def is_materialized(self, planned: PlannedCheckpoint) -> bool:
        return self._status(planned) is dg.AssetPartitionStatus.MATERIALIZED

    def is_known(self, planned: PlannedCheckpoint) -> bool:
        """Whether just this checkpoint is shown as materialized, and not another lake's."""
        version = self.versions.get(planned.partition_key, {}).get(DATA_VERSION_TAG)
        return self.is_materialized(planned) and version == planned.data_version

    def _status(self, planned: PlannedCheckpoint) -> dg.AssetPartitionStatus | None:
        return self.statuses.get(planned.partition_key)


def _is_suspect(
    planned: PlannedCheckpoint, listing: Listing, seen: Mapping[str, str], beliefs: _Beliefs
) -> bool:
    """Whether Dagster and the lake may disagree, so that the checkpoint has to be read."""
    if beliefs.is_in_progress(planned):
        return False
    if planned.number not in listing.present:
        return beliefs.is_materialized(planned)
    group = group_of(planned.number)
    return not beliefs.is_known(planned) or seen.get(group) != listing.digests[group]


def _fail(
    instance: dg.DagsterInstance,
    lake: Lake,
    failures: RecordedFailures,
    lost: Sequence[CheckpointState],
) -> None:
    """Show partitions as failed, with the reason on each and in the run that stands for it."""
    for some in _contiguous(instance, lost):
        first, last = some[0].planned.partition_key, some[-1].planned.partition_key
        run = failures.record(
            instance,
            "summarize",
            "these checkpoints were complete, and on the lake they are not any more: "
            f"{first_names([state.describe() for state in some])}. Re-execute this run, or "
            "materialize the failed partitions of chunk_summaries, to compute them again.",
            {RANGE_START_TAG: first, RANGE_END_TAG: last},
        )
        for state in some:
            instance.report_runless_asset_event(
                dg.AssetObservation(
                    CHUNK_SUMMARIES,
                    partition=state.planned.partition_key,
                    description=f"not valid any more: {state.reason}",
                    metadata={
                        "state": state.validity.value,
                        "reason": state.reason,
                        "manifest": dg.MetadataValue.path(
                            lake.uri_of(places.checkpoint_manifest(state.planned.number))
                        ),
                        "failed_run": dg.MetadataValue.dagster_run(run.run_id),
                    },
                )
            )


def _contiguous(
    instance: dg.DagsterInstance, lost: Sequence[CheckpointState]
) -> Iterator[list[CheckpointState]]:
    """Group checkpoints that follow each other in Dagster's order: a run takes a range."""
    name = checkpoint_partitions.name
    assert name is not None
    place = {key: index for index, key in enumerate(instance.get_dynamic_partitions(name))}
    ordered = sorted(lost, key=lambda state: place[state.planned.partition_key])
    some: list[CheckpointState] = []
    for state in ordered:
        here = place[state.planned.partition_key]
        if some and place[some[-1].planned.partition_key] + 1 != here:
            yield some
            some = []
        some.append(state)
    if some:
        yield some
