"""Brings what Dagster shows of the merged table into line with what lies on the lake."""

from __future__ import annotations

import time
from dataclasses import dataclass

import dagster as dg

from reviewsum_assets.assets.merged_summaries import merged_metadata, record_metadata
from reviewsum_assets.assets.partitions import DATA_VERSION_TAG, MERGED_SUMMARIES, run_in_progress
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.recorded_failures import RecordedFailures
from reviewsum_assets.checkpoints.merge import current_merged_table
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.lake_state import merged_file_problems

# Longer than somebody else takes from one object of a checkpoint or a small table to the next.
SECOND_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class MergedChange:
    """What Dagster had to be told of the merged table.

    ``lost`` is why it is not the table that was merged, empty if it is; ``failed_run`` the run that
    says so. ``doubted`` is why it may be lost, on which the next look decides. ``left`` is whether
    it was left to a run in progress.
    """

    adopted: bool = False
    lost: str = ""
    failed_run: str = ""
    doubted: str = ""
    left: bool = False

    @property
    def is_any(self) -> bool:
        """Whether Dagster had to be told anything."""
        return self.adopted or bool(self.lost)


def reconcile_merged(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    plan: Plan,
    failures: RecordedFailures,
    *,
    thorough: bool,
    doubt: str = "",
) -> MergedChange:
    """Materialize ``merged_summaries`` if the lake alone has the plan's table; fail what is lost.

    Args:
        instance: what believes.
        pipeline: its lake decides.
        plan: the current one.
        failures: record the run that fails.
        thorough: read the whole table, and tell all that can be told of it. Else it is judged by
            its size, and told of what its record says: reading a million rows takes half a minute.
            It is looked at twice before it is called lost; else that is left to the next call.
        doubt: why the last call was in doubt.
    """
    if run_in_progress(instance, "merge"):
        return MergedChange(left=True)
    believed = _believed(instance)
    problems = "; ".join(merged_file_problems(pipeline.lake, thorough=thorough))
    if problems and believed:
        if thorough:
            time.sleep(SECOND_LOOK_SECONDS)
            doubt, problems = problems, "; ".join(merged_file_problems(pipeline.lake))
        if problems != doubt:
            return MergedChange(doubted=problems)
        return _lose(instance, failures, problems)
    if problems:
        return MergedChange()
    merged = current_merged_table(pipeline.lake)
    if merged is None or merged.plan_id != plan.plan_id or merged.csv_sha256 == believed:
        return MergedChange()
    metadata = (
        merged_metadata(pipeline, plan, merged) if thorough else record_metadata(pipeline, merged)
    )
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            MERGED_SUMMARIES,
            metadata={**metadata, "adopted": True},
            tags={DATA_VERSION_TAG: merged.csv_sha256},
        )
    )
    return MergedChange(adopted=True)


def _believed(instance: dg.DagsterInstance) -> str:
    """The data version that Dagster shows; empty if none, or if it was told that it is lost."""
    made = instance.fetch_materializations(MERGED_SUMMARIES, limit=1).records
    lost = instance.fetch_observations(MERGED_SUMMARIES, limit=1).records
    if not made or (lost and lost[0].storage_id > made[0].storage_id):
        return ""
    event = made[0].asset_materialization
    return (event.tags or {}).get(DATA_VERSION_TAG, "") if event is not None else ""


def _lose(instance: dg.DagsterInstance, failures: RecordedFailures, problems: str) -> MergedChange:
    """Show the table as failed, with the reason on it and in the run that stands for it."""
    run = failures.record(
        instance,
        "merge",
        f"the merged table was complete, and on the lake it is not any more: {problems}. "
        "Materialize merged_summaries to make it again: no summary is computed for that.",
        {},
    )
    instance.report_runless_asset_event(
        dg.AssetObservation(
            MERGED_SUMMARIES,
            description=f"not valid any more: {problems}",
            metadata={
                "reason": problems,
                "failed_run": dg.MetadataValue.dagster_run(run.run_id),
            },
        )
    )
    return MergedChange(lost=problems, failed_run=run.run_id)
