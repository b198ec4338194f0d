"""``merged_summaries``: the table users read, every selected product once."""

from typing import Any

import dagster as dg
import polars as pl

from reviewsum_assets import lake as places
from reviewsum_assets.assets import markdown
from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.merge import MERGED_SCHEMA, MergedTable, merge_checkpoints
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.lake import Lake

_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 300


class MergeConfig(dg.Config):
    """Options of one run."""

    allow_incomplete: bool = False


@dg.asset(
    deps=[CHUNK_SUMMARIES],
    group_name="summaries",
    kinds={"csv", "parquet"},
    owners=["team:reviewsum"],
    tags={"domain": "summaries"},
    description=(
        "One summary a product, taken from the newest checkpoint that holds it, as CSV and "
        "Parquet under `summarized_dataset/`. Fails, naming them, while checkpoints are missing "
        "or invalid, unless the run's config says `allow_incomplete`; the table's completeness is "
        "then stamped into its metadata."
    ),
)
def merged_summaries(
    context: dg.AssetExecutionContext,
    config: MergeConfig,
    pipeline: dg.ResourceParam[Pipeline],
) -> dg.MaterializeResult[None]:
    """Merge all checkpoints of the current plan."""
    plan = require_plan(pipeline.lake)
    merged = merge_checkpoints(pipeline.lake, plan, allow_incomplete=config.allow_incomplete)
    if merged.incomplete_checkpoints:
        context.log.warning(f"merged without {len(merged.incomplete_checkpoints)} checkpoints")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(merged.csv_sha256),
        metadata=merged_metadata(pipeline.lake, merged),
    )


def merged_metadata(lake: Lake, merged: MergedTable) -> dict[str, Any]:
    """What the asset's page shows of the merged table on the lake."""
    return {
        "dagster/row_count": merged.rows,
        "dagster/uri": lake.uri_of(places.MERGED_CSV),
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn("product_id", "string", "the product, once"),
                dg.TableColumn("abstracted_summary", "string", "chunk summaries, joined"),
                dg.TableColumn("review_count", "int", "reviews in the current dumps"),
            ]
        ),
        "parquet": dg.MetadataValue.path(lake.uri_of(places.MERGED_PARQUET)),
        "products_selected": merged.selected,
        "products_quarantined": merged.quarantined,
        "completeness": merged.completeness,
        "incomplete_checkpoints": len(merged.incomplete_checkpoints),
        "preview": _preview(lake),
    }


def _preview(lake: Lake) -> dg.MarkdownMetadataValue:
    head = (
        pl.scan_csv(
            lake.uri_of(places.MERGED_CSV),
            schema=MERGED_SCHEMA,
            storage_options=lake.storage_options or None,
        )
        .head(_PREVIEW_PRODUCTS)
        .collect()
    )
    return markdown.table(
        ["product_id", "summary", "reviews"],
        (
            (product_id, markdown.shortened(summary, _PREVIEW_CHARS), count)
            for product_id, summary, count in head.iter_rows()
        ),
    )
