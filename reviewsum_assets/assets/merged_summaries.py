"""``merged_summaries``: the table users read, every selected product once."""

import dagster as dg
from pydantic import Field

from reviewsum_assets.assets.canary_check import require_agreeing_canaries
from reviewsum_assets.assets.checkpoint_plan import checkpoint_plan, plan_of_run
from reviewsum_assets.assets.dagster_home import GPU_POOL
from reviewsum_assets.assets.merged_metadata import merged_metadata
from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.assets.runs_in_progress import REFRESH
from reviewsum_assets.assets.summarize_run import summarize_pending
from reviewsum_assets.checkpoints.merge import merge_checkpoints

# Not `chunk_summaries` as the dependency: Dagster asks for a confirmation before it launches a run,
# here refresh, that leaves out an asset which was never materialized and that another one needs.
checkpoint_files = dg.AssetSpec(
    "checkpoint_files",
    deps=[CHUNK_SUMMARIES],
    group_name="summaries",
    kinds={"csv"},
    owners=["team:reviewsum"],
    description=(
        "The checkpoints on the lake, whichever run, host or Dagster instance computed them: "
        "`checkpoint_files/checkpoint_file_N.csv`, each with its manifest. The merge reads them. "
        "They are made by `chunk_summaries` and cannot be materialized here."
    ),
)


class MergeConfig(dg.Config):
    """Options of one run."""

    allow_incomplete: bool = Field(
        default=False,
        description="Merge the checkpoints that are valid and leave out the others.",
    )


@dg.asset(
    deps=[checkpoint_plan, checkpoint_files],
    group_name="summaries",
    kinds={"csv", "parquet"},
    owners=["team:reviewsum"],
    # In the job refresh it starts Processing jobs.
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
    """Merge all checkpoints of the current plan; in refresh, compute what is pending before."""
    plan = plan_of_run(context.instance, context.run, pipeline.lake)
    is_refresh = context.run.job_name == REFRESH
    if is_refresh:
        summarize_pending(context, pipeline, plan)
        plan = plan_of_run(context.instance, context.run, pipeline.lake, plan)
    require_agreeing_canaries(context, pipeline, plan, is_logged=is_refresh)
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
