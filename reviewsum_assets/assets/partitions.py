"""The partitions of ``chunk_summaries``, one per checkpoint, and questions about runs over them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import CheckpointState, check_checkpoints
from reviewsum_assets.compute.instances import checkpoint_usd
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

CHUNK_SUMMARIES = dg.AssetKey("chunk_summaries")
MERGED_SUMMARIES = dg.AssetKey("merged_summaries")
DATA_VERSION_TAG = "dagster/data_version"
# Digest of files that were written after the listing; the next reconciliation reads them.
UNLISTED = "unlisted"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"

PARTITIONS = "checkpoints"
checkpoint_partitions = dg.DynamicPartitionsDefinition(name=PARTITIONS)


@dataclass(frozen=True)
class Alignment:
    """Partitions that were added, and those that were removed with their retired checkpoints."""

    added: tuple[str, ...]
    retired: tuple[str, ...]


def align_partitions(instance: dg.DagsterInstance, plan: Plan) -> Alignment:
    """Give the instance the partitions of ``plan`` and no others."""
    planned = [checkpoint.partition_key for checkpoint in plan.checkpoints]
    known = set(instance.get_dynamic_partitions(PARTITIONS))
    missing = [key for key in planned if key not in known]
    surplus = sorted(known.difference(planned))
    if missing:
        instance.add_dynamic_partitions(PARTITIONS, missing)
    for key in surplus:
        instance.delete_dynamic_partition(PARTITIONS, key)
    return Alignment(tuple(missing), tuple(surplus))


_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 240


def shown_version(planned: PlannedCheckpoint, digest: str) -> str:
    """Data version of a partition; names the files that Dagster shows, for one query over all."""
    return f"{planned.data_version}:{digest}"


def materialization(
    pipeline: Pipeline,
    state: CheckpointState,
    digest: str,
    *,
    reused: bool,
    adopted: bool = False,
) -> dg.AssetMaterialization:
    """Return the materialization of a valid checkpoint.

    Args:
        pipeline: its lake holds the checkpoint.
        state: of the checkpoint.
        digest: of its files, see ``checkpoint_digests``, from a listing before they were read.
        reused: the run found the checkpoint complete and computed nothing.
        adopted: no run of this instance computed it.
    """
    metadata = {**_metadata(pipeline, state), "reused": reused, "adopted": adopted or None}
    return dg.AssetMaterialization(
        asset_key=CHUNK_SUMMARIES,
        partition=state.planned.partition_key,
        metadata={name: value for name, value in metadata.items() if value is not None},
        tags={DATA_VERSION_TAG: shown_version(state.planned, digest)},
    )


def _metadata(pipeline: Pipeline, state: CheckpointState) -> dict[str, Any]:
    """Metadata of a checkpoint; absent values are None.

    So are some zeros: Dagster plots every number, and a curve of zeros carries no information.
    """
    manifest, planned = state.manifest, state.planned
    assert manifest is not None
    lake, producer = pipeline.lake, manifest.producer
    usd = checkpoint_usd(manifest, pipeline.settings.usd_per_hour)
    hours = max(manifest.worker_seconds, 1e-9) / 3600
    preview = (
        (
            row.product_id,
            display.shortened(row.abstracted_summary, _PREVIEW_CHARS),
            row.review_count,
        )
        for row in state.rows[:_PREVIEW_PRODUCTS]
    )
    quarantined = [(product.product_id, product.reason) for product in manifest.quarantined]
    # Checkpoints of one pool are computed together, so that only ``worker_seconds`` add up.
    seconds = {
        "from start to end": manifest.seconds,
        "predicted": manifest.predicted_seconds,
        **manifest.timings.model_dump(),
    }
    totals = manifest.totals
    return {
        "products": f"{len(manifest.products):,} of {planned.products:,} summarized",
        "quarantined": len(quarantined) or None,
        "worker_seconds": round(manifest.worker_seconds, 3),
        "products_per_hour": round(len(manifest.products) / hours),
        "usd": None if usd is None else round(usd, 6),
        "preview": display.preview(["product_id", "abstracted_summary", "review_count"], preview),
        "quarantined_products": (
            display.table(["product_id", "reason"], quarantined) if quarantined else None
        ),
        "reviews": manifest.reviews,
        "reviews_read": manifest.reviews_read,
        **totals._asdict(),
        "chunks_reused": totals.chunks_reused or None,
        "compression_ratio": round(totals.tokens_out / max(1, totals.tokens_in), 4),
        "seconds": display.table(
            ["stage", "seconds"],
            [(stage, f"{value:,.2f}") for stage, value in seconds.items() if value is not None],
        ),
        "engine": f"{producer.engine}, {producer.device}, {producer.dtype}",
        "engine_reason": producer.engine_reason or None,
        "instance_type": producer.instance_type,
        "job": producer.job_name,
        **display.link_metadata(pipeline.compute.links_of(producer)),
        "manifest": dg.MetadataValue.path(lake.uri_of(places.checkpoint_manifest(planned.number))),
        "dagster/partition_row_count": len(manifest.products),
        "dagster/uri": lake.uri_of(places.checkpoint_csv(planned.number)),
    }


_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# The last asset of each job: materializing it on its page does the work of the job.
_LAST_ASSETS: Mapping[str, dg.AssetKey] = {
    "ingest": dg.AssetKey("checkpoint_plan"),
    "summarize": CHUNK_SUMMARIES,
    "merge": dg.AssetKey("merged_summaries"),
}
REFRESH = "refresh"


def run_in_progress(instance: dg.DagsterInstance, *jobs: str) -> str:
    """``run ID of JOB``, for a run that does the work of one of these jobs; empty if none does."""
    for run in instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS)):
        for job in jobs:
            is_of_job = run.job_name in (job, REFRESH)
            if is_of_job or _LAST_ASSETS.get(job) in (run.asset_selection or ()):
                return f"run {run.run_id} of {job}"
    return ""


# The materialization searched for precedes those of partitions, of which there may be 10,000.
_EVENTS_AT_A_TIME = 1_000


def earlier_attempts(instance: dg.DagsterInstance, run: dg.DagsterRun) -> frozenset[str]:
    """Ids of the failed runs that a run is the next attempt of, with the same options.

    A run that succeeded left nothing to go on with: executing it again means all of it.
    """
    found = set()
    for attempt in islice(_attempts(instance, run), 1, None):
        if attempt.is_success or _options(attempt) != _options(run):
            break
        found.add(attempt.run_id)
    return frozenset(found)


def materialized_in(
    instance: dg.DagsterInstance, run: dg.DagsterRun, asset: str
) -> dg.AssetMaterialization | None:
    """First materialization of an asset in a run, or else in the run that it is a retry of."""
    for attempt in _attempts(instance, run):
        cursor, has_more = None, True
        while has_more:
            found = instance.get_records_for_run(
                attempt.run_id,
                cursor,
                of_type=dg.DagsterEventType.ASSET_MATERIALIZATION,
                limit=_EVENTS_AT_A_TIME,
            )
            for record in found.records:
                materialization = record.event_log_entry.asset_materialization
                if materialization is not None and materialization.asset_key == dg.AssetKey(asset):
                    return materialization
            cursor, has_more = found.cursor, found.has_more
    return None


def _attempts(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[dg.DagsterRun]:
    """A run, and the runs that it repeats, the newest first."""
    attempt: dg.DagsterRun | None = run
    while attempt is not None:
        yield attempt
        parent_id = attempt.get_parent_run_id()
        attempt = instance.get_run_by_id(parent_id) if parent_id else None


def _options(run: dg.DagsterRun) -> object:
    """Config of ``chunk_summaries`` in a run, such as ``recompute``."""
    ops = run.run_config.get("ops")
    return ops.get(CHUNK_SUMMARIES.to_user_string()) if isinstance(ops, dict) else None


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
        lake: checkpoints that are valid there are left out.
        plan: checkpoints that it does not name are left out.
        run: outside a backfill that is in progress it gets nothing.
        requested: checkpoints that the run itself was asked for.
    """
    keys = _unfinished_keys(instance, run) - {planned.partition_key for planned in requested}
    others = [planned for planned in plan.checkpoints if planned.partition_key in keys]
    states = check_checkpoints(lake, others)
    return {state.planned.number: state.planned for state in states if not state.is_valid}


def _unfinished_keys(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """The selection of a run's backfill, less that of its finished runs.

    Queued runs do not give it: the first run may start before the last one is created.
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
    ordered = list(instance.get_dynamic_partitions(PARTITIONS))
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
