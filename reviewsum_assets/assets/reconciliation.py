"""Brings what Dagster believes into line with what lies on the lake, both ways.

The lake decides. A valid checkpoint that Dagster does not know is adopted: materialized without a
run. One that Dagster believes in and that is gone or invalid is shown as failed. Only a run can
fail a partition, so a run of the job ``summarize`` over it is recorded as failed, with the reason,
and nothing is executed. Partitions that a run is working on are left to it.

Another instance may compute a checkpoint again, or merge: between its CSV and its manifest each
seems damaged. So nothing is called lost until a second look, some time later, finds the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import dagster as dg

from reviewsum_assets.assets.failed_partitions import show_as_failed
from reviewsum_assets.assets.merged_reconciliation import (
    SECOND_LOOK_SECONDS,
    MergedChange,
    reconcile_merged,
)
from reviewsum_assets.assets.partition_beliefs import Beliefs
from reviewsum_assets.assets.partitions import Alignment, align_partitions, materialization
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.reconciliation_memory import Seen, digest_of
from reviewsum_assets.assets.recorded_failures import RecordedFailures
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import (
    MERGED,
    CheckpointState,
    Listing,
    check_checkpoints,
    group_of,
    list_lake,
)
from reviewsum_assets.errors import first_names
from reviewsum_assets.storage.lake import Lake

# A call with a time limit tells Dagster of about as many losses, each of which takes 0.1 s, and
# does not go on to the next group with more in doubt.
_LOSSES_AT_ONCE = 30


@dataclass(frozen=True)
class Reconciliation:
    """What had to be told to Dagster.

    ``lost`` and ``doubted``, on which the next call decides, come without manifests and rows.
    ``left`` counts the checkpoints that are still to be looked at; ``is_complete`` is whether every
    planned one is there; ``seen`` is for the next call.
    """

    alignment: Alignment
    adopted: tuple[str, ...]
    lost: tuple[CheckpointState, ...]
    doubted: tuple[CheckpointState, ...]
    merged: MergedChange
    in_progress: int
    left: int
    is_complete: bool
    seen: Seen

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
                ("checkpoints in doubt", [state.describe() for state in self.doubted]),
            )
            if keys
        ]
        if self.merged.adopted:
            told.append("merged_summaries adopted")
        if self.merged.lost:
            told.append(f"merged_summaries lost: {self.merged.lost}")
        if self.merged.doubted:
            told.append(f"merged_summaries in doubt: {self.merged.doubted}")
        if self.did_nothing and not (self.left or self.doubted or self.merged.doubted):
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
    seen: Seen | None = None,
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
        seconds: begin to look at groups of checkpoints for so long, at one at least, judge the
            merged table by its size, and leave what seems lost to the next call. None: as long as
            it takes, with a second look at what seems lost.

    Raises:
        LakeError: the lake is out of reach. Nothing is called lost because of that.
    """
    lake = pipeline.lake
    alignment = align_partitions(instance, plan)
    listing = list_lake(lake, plan)
    seen = seen or Seen()
    beliefs = Beliefs.of(instance, plan)
    deadline = None if seconds is None else time.monotonic() + seconds
    look = _Look(seen.doubts, deadline)
    for group, suspects in _suspects(plan, listing, seen, beliefs):
        if look.has_begun and (look.is_late or look.is_enough):
            look.left[group] = suspects
        else:
            _look_at(look, instance, pipeline, beliefs, group, suspects)
    if deadline is None:
        look.decide(lake)
    show_as_failed(instance, lake, failures, look.lost)
    merged = MergedChange()
    if seen.listings.get(MERGED) != listing.digests[MERGED]:
        merged = reconcile_merged(
            instance,
            pipeline,
            plan,
            failures,
            thorough=deadline is None,
            doubt=seen.doubts.get(MERGED, ""),
        )
    return Reconciliation(
        alignment=alignment,
        adopted=tuple(look.adopted),
        lost=tuple(look.lost),
        doubted=tuple(look.doubted),
        merged=merged,
        in_progress=sum(beliefs.is_in_progress(planned) for planned in plan.checkpoints),
        left=sum(map(len, look.left.values())),
        is_complete=len(listing.present) == len(plan.checkpoints),
        seen=_seen(look, listing, seen, merged),
    )


@dataclass
class _Look:
    """What is found at the checkpoints that are looked at."""

    doubts: Mapping[str, str]  # of the look before
    deadline: float | None
    adopted: list[str] = field(default_factory=list)
    lost: list[CheckpointState] = field(default_factory=list)
    doubted: list[CheckpointState] = field(default_factory=list)
    # By group: those that are not valid and not believed in, and those that time was too short for.
    invalid: dict[str, list[int]] = field(default_factory=dict)
    left: dict[str, Sequence[PlannedCheckpoint]] = field(default_factory=dict)

    @property
    def has_begun(self) -> bool:
        return bool(self.invalid)

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    @property
    def is_enough(self) -> bool:
        """Whether there is as much to be told, now or at the next call, as there is time for."""
        most = max(len(self.lost), len(self.doubted))
        return self.deadline is not None and most >= _LOSSES_AT_ONCE

    def missed(self, state: CheckpointState) -> None:
        """Note a checkpoint that Dagster believes in and that is not valid."""
        is_certain = self.doubts.get(state.planned.partition_key) == state.reason
        (self.lost if is_certain else self.doubted).append(state)

    def decide(self, lake: Lake) -> None:
        """Look a second time at what is in doubt, after a pause."""
        if not self.doubted:
            return
        time.sleep(SECOND_LOOK_SECONDS)
        first, self.doubted = self.doubted, []
        self.doubts = {state.planned.partition_key: state.reason for state in first}
        for state in check_checkpoints(lake, [state.planned for state in first]):
            if not state.is_valid:
                self.missed(state)


def _look_at(
    look: _Look,
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    beliefs: Beliefs,
    group: str,
    suspects: Sequence[PlannedCheckpoint],
) -> None:
    """Read some checkpoints of a group; adopt those that are valid, and note those that are not."""
    invalid = look.invalid.setdefault(group, [])
    adopted = look.adopted
    for count, state in enumerate(check_checkpoints(pipeline.lake, suspects), 1):
        before = len(adopted) + len(look.lost)
        if not state.is_valid:
            invalid.append(state.planned.number)
            if beliefs.is_materialized(state.planned):
                look.missed(state)
        elif not beliefs.is_known(state.planned):
            instance.report_runless_asset_event(
                materialization(pipeline, state, reused=True, adopted=True)
            )
            adopted.append(state.planned.partition_key)
        # What was told need not be told again. What was only read would be: a group is read whole.
        is_told = len(adopted) + len(look.lost) > before
        if is_told and count < len(suspects) and (look.is_late or look.is_enough):
            look.left[group] = suspects[count:]
            return


def _suspects(
    plan: Plan, listing: Listing, seen: Seen, beliefs: Beliefs
) -> list[tuple[str, list[PlannedCheckpoint]]]:
    """Checkpoints on which Dagster and the lake may disagree, so that they have to be read.

    Groups with doubts come first, then those with what Dagster does not know, so that no limit
    keeps these waiting for ever. What was read as invalid and shown so is not read again.
    """
    members: dict[str, list[PlannedCheckpoint]] = {}
    for planned in plan.checkpoints:
        if not beliefs.is_in_progress(planned):
            members.setdefault(group_of(planned.number), []).append(planned)
    found = []
    for group, some in members.items():
        there = [c for c in some if c.number in listing.present]
        unknown = [c for c in there if not beliefs.is_known(c)]
        suspects = [
            c for c in some if c.number not in listing.present and beliefs.is_materialized(c)
        ]
        if seen.listings.get(group) != listing.digests[group]:
            suspects += there
        elif seen.invalid.get(group, "") != digest_of(c.number for c in unknown):
            suspects += unknown
        if suspects:
            is_in_doubt = any(c.partition_key in seen.doubts for c in suspects)
            found.append((not is_in_doubt, not unknown, group, suspects))
    found.sort(key=lambda one: one[:2])
    return [(group, suspects) for *_, group, suspects in found]


def _seen(look: _Look, listing: Listing, before: Seen, merged: MergedChange) -> Seen:
    """What the next call need not look at, and what it has to look at again."""
    doubts = {state.planned.partition_key: state.reason for state in look.doubted}
    for planned in chain.from_iterable(look.left.values()):
        if planned.partition_key in before.doubts:
            doubts[planned.partition_key] = before.doubts[planned.partition_key]
    still_open = {group_of(state.planned.number) for state in look.doubted} | look.left.keys()
    if merged.doubted:
        doubts[MERGED] = merged.doubted
    if merged.left or merged.doubted:
        still_open.add(MERGED)
    settled = {g: digest for g, digest in listing.digests.items() if g not in still_open}
    invalid = {
        group: digest_of(listing.present.intersection(numbers))
        for group, numbers in look.invalid.items()
    }
    return Seen(
        listings=settled,
        invalid={g: i for g, i in {**before.invalid, **invalid}.items() if i and g in settled},
        doubts=doubts,
    )
