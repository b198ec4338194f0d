"""What Dagster is told of a checkpoint: its partition's materialization.

Its numbers plot over all partitions.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.display import link_metadata
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.validity import CheckpointState
from reviewsum_assets.compute.instances import checkpoint_usd
from reviewsum_assets.storage import places

CHUNK_SUMMARIES = dg.AssetKey("chunk_summaries")
DATA_VERSION_TAG = "dagster/data_version"

_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 240


def materialization(
    pipeline: Pipeline, state: CheckpointState, *, reused: bool, adopted: bool = False
) -> dg.AssetMaterialization:
    """The materialization of a valid checkpoint.

    Args:
        pipeline: whose lake holds the checkpoint.
        state: the checkpoint, which is valid.
        reused: the run found it there and computed nothing.
        adopted: no run says so, the lake alone.
    """
    return dg.AssetMaterialization(
        asset_key=CHUNK_SUMMARIES,
        partition=state.planned.partition_key,
        metadata={
            **_metadata(pipeline, state),
            "reused": reused,
            **({"adopted": True} if adopted else {}),
        },
        tags={DATA_VERSION_TAG: state.planned.data_version},
    )


def _metadata(pipeline: Pipeline, state: CheckpointState) -> dict[str, Any]:
    manifest = state.manifest
    assert manifest is not None
    lake, producer = pipeline.lake, manifest.producer
    usd = checkpoint_usd(manifest, pipeline.settings.usd_per_hour)
    return {
        "products": f"{len(manifest.products):,} of {state.planned.products:,} summarized",
        **_counted("quarantined", len(manifest.quarantined)),
        "worker_seconds": round(manifest.worker_seconds, 3),
        "products_per_hour": _products_per_hour(manifest),
        **({} if usd is None else {"usd": round(usd, 6)}),
        **_products(state, manifest),
        **_amounts(manifest),
        "seconds": _timings(manifest),
        "engine": f"{producer.engine}, {producer.device}, {producer.dtype}",
        **({"engine_reason": producer.engine_reason} if producer.engine_reason else {}),
        "instance_type": producer.instance_type,
        "job": producer.job_name,
        **link_metadata(pipeline.compute.links_of(producer)),
        "manifest": dg.MetadataValue.path(
            lake.uri_of(places.checkpoint_manifest(state.planned.number))
        ),
        "dagster/partition_row_count": len(manifest.products),
        "dagster/uri": lake.uri_of(places.checkpoint_csv(state.planned.number)),
    }


def _counted(name: str, count: int) -> dict[str, int]:
    """Nothing for zero, because Dagster plots every number, and a curve of zeros says nothing."""
    return {name: count} if count else {}


def _amounts(manifest: Manifest) -> dict[str, float]:
    return {
        "reviews": manifest.reviews,
        **({} if manifest.reviews_read is None else {"reviews_read": manifest.reviews_read}),
        "chunks": manifest.chunks,
        **_counted("chunks_reused", manifest.chunks_reused),
        "tokens_in": manifest.tokens_in,
        "tokens_out": manifest.tokens_out,
        "compression_ratio": round(manifest.tokens_out / max(1, manifest.tokens_in), 4),
    }


def _timings(manifest: Manifest) -> dg.MarkdownMetadataValue:
    """Seconds until the checkpoint was written, and of each stage.

    Checkpoints of one pool are computed together, so that only ``worker_seconds`` add up.
    """
    predicted = manifest.predicted_seconds
    seconds = {
        "from start to end": manifest.seconds,
        **({} if predicted is None else {"predicted": predicted}),
        **manifest.timings.model_dump(),
    }
    return display.table(
        ["stage", "seconds"], ((stage, f"{value:,.2f}") for stage, value in seconds.items())
    )


def _products_per_hour(manifest: Manifest) -> int:
    return round(3600 * len(manifest.products) / max(manifest.worker_seconds, 1e-9))


def _products(state: CheckpointState, manifest: Manifest) -> dict[str, dg.MarkdownMetadataValue]:
    preview = display.preview(
        ["product_id", "abstracted_summary", "review_count"],
        (
            (r.product_id, display.shortened(r.abstracted_summary, _PREVIEW_CHARS), r.review_count)
            for r in state.rows[:_PREVIEW_PRODUCTS]
        ),
    )
    if not manifest.quarantined:
        return {"preview": preview}
    return {
        "preview": preview,
        "quarantined_products": display.table(
            ["product_id", "reason"], ((q.product_id, q.reason) for q in manifest.quarantined)
        ),
    }
