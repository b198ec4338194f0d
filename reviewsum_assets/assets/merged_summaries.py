"""``merged_summaries``: the table users read, every selected product once."""

import dagster as dg

from reviewsum_assets.assets.canary_check import require_agreeing_canaries
from reviewsum_assets.assets.merged_metadata import merged_metadata
from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import require_plan


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
        "The result: one row a product with its summary, taken from the checkpoint that the "
        "plan names, as CSV and Parquet under `summarized_dataset/`. Fails, naming them, while "
        "checkpoints are missing or invalid, unless the run's config says `allow_incomplete`. Its "
        "checks tell whether the table is whole, up to date, and worth reading."
    ),
)
def merged_summaries(
    context: dg.AssetExecutionContext,
    config: MergeConfig,
    pipeline: dg.ResourceParam[Pipeline],
) -> dg.MaterializeResult[None]:
    """Merge all checkpoints of the current plan."""
    plan = require_plan(pipeline.lake)
    require_agreeing_canaries(pipeline, plan)
    merged = merge_checkpoints(
        pipeline.lake,
        plan,
        allow_incomplete=config.allow_incomplete,
        spreadsheet=pipeline.settings.spreadsheet_csv,
    )
    if merged.incomplete_checkpoints:
        context.log.warning(f"merged without {len(merged.incomplete_checkpoints)} checkpoints")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(merged.csv_sha256),
        metadata=merged_metadata(pipeline, plan, merged),
    )
