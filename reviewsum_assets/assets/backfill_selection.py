"""One Processing job for a backfill, however scattered its selection is.

Dagster makes a run of each contiguous range of the chosen partitions, so that a selection of the
checkpoints 1, 3, 4 and 8 is three runs. Each would start a job of its own, one after another:
three machines to be started, three models to be loaded. So the run that starts a job takes along
what the other runs of its backfill have yet to compute; these then find their checkpoints valid.
Nothing outside the user's selection is computed, and nothing that a run has already failed or been
cancelled over: that waits until somebody asks for it again.
"""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import (
    RANGE_END_TAG,
    RANGE_START_TAG,
    checkpoint_partitions,
)
from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.storage.lake import Lake

BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def pending_elsewhere(
    instance: dg.DagsterInstance,
    lake: Lake,
    plan: Plan,
    run: dg.DagsterRun,
    requested: Collection[PlannedCheckpoint],
) -> dict[int, PlannedCheckpoint]:
    """Checkpoints that are not valid and that other runs of this run's backfill are to compute.

    Args:
        instance: knows the backfill and its runs.
        lake: what is valid there is left out.
        plan: what is not in it, or not any more, is left out.
        run: the run that asks; one outside a backfill, or of one that has ended, gets nothing.
        requested: what the run was asked for itself.
    """
    keys = _unfinished_keys(instance, run) - {planned.partition_key for planned in requested}
    others = [planned for planned in plan.checkpoints if planned.partition_key in keys]
    states = check_checkpoints(lake, others)
    return {state.planned.number: state.planned for state in states if not state.is_valid}


def _unfinished_keys(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """The selection of a run's backfill, less what its finished runs were asked for.

    Taken from the backfill and not from its queued runs, since the first run may start before the
    last one is created.
    """
    backfill_id = run.tags.get(BACKFILL_TAG)
    backfill = instance.get_backfill(backfill_id) if backfill_id else None
    if backfill is None or backfill.status.value != "REQUESTED":
        return set()
    if backfill.asset_backfill_data is None:
        selected = set(backfill.partition_names or ())
    else:
        subsets = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
        subset = subsets.get(CHUNK_SUMMARIES)
        selected = set() if subset is None else set(subset.get_partition_keys())
    name = checkpoint_partitions.name
    assert name is not None
    ordered = list(instance.get_dynamic_partitions(name))
    finished = dg.RunsFilter(tags={BACKFILL_TAG: backfill.backfill_id}, statuses=_FINISHED)
    for other in instance.get_runs(finished):
        selected.difference_update(_keys_of(other, ordered))
    return selected


def _keys_of(run: dg.DagsterRun, ordered: list[str]) -> list[str]:
    """The partitions that a run was asked for, given all in Dagster's order."""
    if PARTITION_TAG in run.tags:
        return [run.tags[PARTITION_TAG]]
    first, last = run.tags.get(RANGE_START_TAG), run.tags.get(RANGE_END_TAG)
    if first not in ordered or last not in ordered:
        return []
    return ordered[ordered.index(first) : ordered.index(last) + 1]
