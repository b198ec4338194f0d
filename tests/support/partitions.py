"""Partitions of ``chunk_summaries`` as the UI shows them, and runs and backfills over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster._core.execution.backfill import PartitionBackfill

from reviewsum_assets.assets.partitions import CHUNK_SUMMARIES, checkpoint_partitions
from reviewsum_assets.checkpoints.plan import partition_key
from reviewsum_assets.definitions import defs


def shown(instance: dg.DagsterInstance) -> dict[int, str]:
    """The state of each partition, by checkpoint, as the UI colours it; missing ones as such."""
    keys = instance.get_dynamic_partitions("checkpoints")
    states = instance.get_status_by_partition(CHUNK_SUMMARIES, keys, checkpoint_partitions) or {}
    return {int(key[-5:]): s.value if (s := states.get(key)) else "MISSING" for key in keys}


def events(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    """Metadata of all materializations of ``chunk_summaries``, oldest first."""
    records = instance.fetch_materializations(CHUNK_SUMMARIES, limit=1000, ascending=True).records
    found = [record.asset_materialization for record in records]
    return [
        {"partition": event.partition, **{k: v.value for k, v in event.metadata.items()}}
        for event in found
        if event is not None
    ]


def range_tags(first: int, last: int) -> dict[str, str]:
    """Tags of a run over a range."""
    return {
        "dagster/asset_partition_range_start": partition_key(first),
        "dagster/asset_partition_range_end": partition_key(last),
    }


def planned_run(
    instance: dg.DagsterInstance, first: int, last: int, status: dg.DagsterRunStatus, **tags: str
) -> dg.DagsterRun:
    """A run over a range that did nothing and is in this state."""
    job = defs.resolve_job_def("summarize")
    tags = {**range_tags(first, last), **tags}
    return instance.create_run_for_job(job, tags=tags, status=status)


def backfill(instance: dg.DagsterInstance, numbers: Sequence[int]) -> PartitionBackfill:
    """What choosing these partitions in the UI leaves on the instance."""
    found = PartitionBackfill.from_asset_partitions(
        backfill_id="backfill",
        asset_graph=defs.resolve_asset_graph(),
        partition_names=[partition_key(number) for number in numbers],
        asset_selection=[CHUNK_SUMMARIES],
        backfill_timestamp=1.0,
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(found)
    return found
