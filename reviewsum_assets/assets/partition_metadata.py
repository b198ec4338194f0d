"""What Dagster is told of a checkpoint: its partition's materialization."""

from __future__ import annotations

from typing import Any

import dagster as dg

from reviewsum_assets import lake as places
from reviewsum_assets.assets import markdown
from reviewsum_assets.checkpoints.validity import CheckpointState
from reviewsum_assets.lake import Lake

CHUNK_SUMMARIES = dg.AssetKey("chunk_summaries")
DATA_VERSION_TAG = "dagster/data_version"

_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 300


def materialization(
    lake: Lake, state: CheckpointState, *, reused: bool, adopted: bool = False
) -> dg.AssetMaterialization:
    """The materialization of a valid checkpoint.

    Args:
        lake: where the checkpoint lies.
        state: the checkpoint, which is valid.
        reused: the run found it there and computed nothing.
        adopted: no run says so, the lake alone.
    """
    return dg.AssetMaterialization(
        asset_key=CHUNK_SUMMARIES,
        partition=state.planned.partition_key,
        metadata={
            **_metadata(lake, state),
            "reused": reused,
            **({"adopted": True} if adopted else {}),
        },
        tags={DATA_VERSION_TAG: state.planned.data_version},
    )


def _metadata(lake: Lake, state: CheckpointState) -> dict[str, Any]:
    manifest = state.manifest
    assert manifest is not None
    return {
        "dagster/partition_row_count": len(manifest.products),
        "dagster/uri": lake.uri_of(places.checkpoint_csv(state.planned.number)),
        "manifest": dg.MetadataValue.path(
            lake.uri_of(places.checkpoint_manifest(state.planned.number))
        ),
        "products": len(manifest.products),
        "reviews": manifest.reviews,
        "quarantined": len(manifest.quarantined),
        "chunks": manifest.chunks,
        "tokens_in": manifest.tokens_in,
        "tokens_out": manifest.tokens_out,
        "seconds": round(manifest.seconds, 3),
        "worker_seconds": round(manifest.worker_seconds, 3),
        **{
            f"{stage}_seconds": round(seconds, 3)
            for stage, seconds in manifest.timings.model_dump().items()
        },
        **(
            {"predicted_seconds": round(manifest.predicted_seconds, 3)}
            if manifest.predicted_seconds is not None
            else {}
        ),
        "products_per_hour": round(3600 * len(manifest.products) / max(manifest.seconds, 1e-9)),
        "job": manifest.producer.job_name,
        "engine": f"{manifest.producer.engine}, {manifest.producer.device}, "
        f"{manifest.producer.dtype}",
        "preview": markdown.table(
            ["product_id", "summary", "reviews"],
            (
                (
                    r.product_id,
                    markdown.shortened(r.abstracted_summary, _PREVIEW_CHARS),
                    r.review_count,
                )
                for r in state.rows[:_PREVIEW_PRODUCTS]
            ),
        ),
        **(
            {
                "quarantined_products": markdown.table(
                    ["product_id", "reason"],
                    ((q.product_id, q.reason) for q in manifest.quarantined),
                )
            }
            if manifest.quarantined
            else {}
        ),
    }
