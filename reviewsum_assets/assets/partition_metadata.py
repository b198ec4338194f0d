"""What Dagster is told of a checkpoint: its partition's materialization.

Its numbers plot over all partitions.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from reviewsum_assets import places
from reviewsum_assets.assets import markdown
from reviewsum_assets.assets.links import link_metadata
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.validity import CheckpointState
from reviewsum_assets.compute.checkpoint_cost import checkpoint_usd

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
    return {
        "dagster/partition_row_count": len(manifest.products),
        "dagster/uri": lake.uri_of(places.checkpoint_csv(state.planned.number)),
        **_products(state, manifest),
        "manifest": dg.MetadataValue.path(
            lake.uri_of(places.checkpoint_manifest(state.planned.number))
        ),
        **_amounts(manifest),
        **_pace(manifest, pipeline.settings.usd_per_hour),
        "engine": f"{producer.engine}, {producer.device}, {producer.dtype}",
        **({"engine_reason": producer.engine_reason} if producer.engine_reason else {}),
        "instance_type": producer.instance_type,
        "job": producer.job_name,
        **({"repacked_from": sorted(manifest.repacked_from)} if manifest.repacked_from else {}),
        **link_metadata(pipeline.compute.links_of(producer)),
    }


def _amounts(manifest: Manifest) -> dict[str, float]:
    return {
        "products": len(manifest.products),
        "reviews": manifest.reviews,
        **({} if manifest.reviews_read is None else {"reviews_read": manifest.reviews_read}),
        "quarantined": len(manifest.quarantined),
        "chunks": manifest.chunks,
        "chunks_reused": manifest.chunks_reused,
        "tokens_in": manifest.tokens_in,
        "tokens_out": manifest.tokens_out,
        "compression_ratio": round(manifest.tokens_out / max(1, manifest.tokens_in), 4),
    }


def _pace(manifest: Manifest, usd_per_hour: float | None) -> dict[str, float]:
    """Seconds, what they are worth, and how many products that makes an hour of one worker.

    Checkpoints of one pool are worked on at the same time, so ``seconds`` says how long it took
    until this one lay there, and only ``worker_seconds`` add up.
    """
    usd = checkpoint_usd(manifest, usd_per_hour)
    predicted = manifest.predicted_seconds
    return {
        "seconds": round(manifest.seconds, 3),
        "worker_seconds": round(manifest.worker_seconds, 3),
        **({} if predicted is None else {"predicted_seconds": round(predicted, 3)}),
        **{
            f"{stage}_seconds": round(seconds, 3)
            for stage, seconds in manifest.timings.model_dump().items()
        },
        **({} if manifest.repacked_from else {"products_per_hour": _products_per_hour(manifest)}),
        **({} if usd is None else {"usd": round(usd, 6)}),
    }


def _products_per_hour(manifest: Manifest) -> int:
    return round(3600 * len(manifest.products) / max(manifest.worker_seconds, 1e-9))


def _products(state: CheckpointState, manifest: Manifest) -> dict[str, dg.MarkdownMetadataValue]:
    preview = markdown.preview(
        ["product_id", "summary", "reviews"],
        (
            (r.product_id, markdown.shortened(r.abstracted_summary, _PREVIEW_CHARS), r.review_count)
            for r in state.rows[:_PREVIEW_PRODUCTS]
        ),
    )
    if not manifest.quarantined:
        return {"preview": preview}
    return {
        "preview": preview,
        "quarantined_products": markdown.table(
            ["product_id", "reason"], ((q.product_id, q.reason) for q in manifest.quarantined)
        ),
    }
