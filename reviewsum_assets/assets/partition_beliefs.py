"""What Dagster believes of the partitions of ``chunk_summaries``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from reviewsum_assets.assets.partitions import (
    CHUNK_SUMMARIES,
    DATA_VERSION_TAG,
    REFRESH,
    checkpoint_partitions,
    run_in_progress,
)
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint


@dataclass(frozen=True)
class Beliefs:
    """What Dagster shows of each partition, and which data version it last saw materialized.

    ``is_refreshed`` says whether a run of ``refresh`` may land any of them.
    """

    statuses: Mapping[str, dg.AssetPartitionStatus | None]
    versions: Mapping[str, Mapping[str, str]]
    is_refreshed: bool = False

    @classmethod
    def of(cls, instance: dg.DagsterInstance, plan: Plan) -> Beliefs:
        """Of every partition of a plan, by two queries."""
        keys = [planned.partition_key for planned in plan.checkpoints]
        return cls(
            statuses=instance.get_status_by_partition(CHUNK_SUMMARIES, keys, checkpoint_partitions)
            or {},
            # One query; asking for the latest materialization of each would take 10,000.
            versions=instance.event_log_storage.get_latest_tags_by_partition(
                CHUNK_SUMMARIES, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
            ),
            is_refreshed=bool(run_in_progress(instance, REFRESH)),
        )

    def is_in_progress(self, planned: PlannedCheckpoint) -> bool:
        """Whether a run is working on it."""
        status = self._status(planned)
        is_open = self.is_refreshed and status is not dg.AssetPartitionStatus.MATERIALIZED
        return is_open or status is dg.AssetPartitionStatus.IN_PROGRESS

    def is_materialized(self, planned: PlannedCheckpoint) -> bool:
        """Whether it is green."""
        return self._status(planned) is dg.AssetPartitionStatus.MATERIALIZED

    def is_known(self, planned: PlannedCheckpoint) -> bool:
        """Whether just this checkpoint is shown as materialized, and not another lake's."""
        version = self.versions.get(planned.partition_key, {}).get(DATA_VERSION_TAG)
        return self.is_materialized(planned) and version == planned.data_version

    def _status(self, planned: PlannedCheckpoint) -> dg.AssetPartitionStatus | None:
        return self.statuses.get(planned.partition_key)
