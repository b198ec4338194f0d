"""Shows partitions as failed whose checkpoints are lost: a recorded run and an observation each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg

from reviewsum_assets.assets.partitions import (
    CHUNK_SUMMARIES,
    RANGE_END_TAG,
    RANGE_START_TAG,
    checkpoint_partitions,
)
from reviewsum_assets.assets.recorded_failures import RecordedFailures
from reviewsum_assets.checkpoints.validity import CheckpointState
from reviewsum_assets.errors import first_names
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake


def show_as_failed(
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
