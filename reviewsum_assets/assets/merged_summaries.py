"""``merged_summaries``: the table users read, every selected product once."""

import dagster as dg
from pydantic import Field

from reviewsum_assets.assets.canary_check import require_agreeing_canaries
from reviewsum_assets.assets.checkpoint_plan import checkpoint_plan
from reviewsum_assets.assets.merged_metadata import merged_metadata
from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.assets.summarize_run import summarize_pending
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.dagster_home import GPU_POOL


class MergeConfig(dg.Config):
    """Options of one run."""

    compute_pending: bool = Field(
        default=False,
        description="Compute the checkpoints that are missing or invalid first; the job `refresh` "
        "does so.",
    )
    allow_incomplete: bool = Field(
        default=False,
        description="Merge the checkpoints that are valid and leave out the others.",
    )


@dg.asset(
    deps=[checkpoint_plan, CHUNK_SUMMARIES],
    group_name="summaries",
    kinds={"csv", "parquet"},
    owners=["team:reviewsum"],
    # With `compute_pending` it starts Processing jobs.
    pool=GPU_POOL,
    description=(
        "The result: one row per product with its summary, from the checkpoint that the plan "
        "names, as CSV and Parquet under `summarized_dataset/`. To bring it up to date, launch the "
        "job **refresh**. *Materialize all* in the graph fixes its partitions before the plan adds "
        "new ones: it fails, naming them, while checkpoints are missing or invalid, unless the "
        "run's config says `allow_incomplete`. The checks say whether the table is complete, up "
        "to date, and worth reading."
    ),
)
@fails_plainly
def merged_summaries(
    context: dg.AssetExecutionContext,
    config: MergeConfig,
    pipeline: dg.ResourceParam[Pipeline],
) -> dg.MaterializeResult[None]:
    """Merge all checkpoints of the current plan; before that, compute those that are asked for."""
    plan = require_plan(pipeline.lake)
    if config.compute_pending:
        summarize_pending(context, pipeline, plan)
    require_agreeing_canaries(context, pipeline, plan, is_logged=config.compute_pending)
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
