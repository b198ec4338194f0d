"""``chunk_summaries``: one partition per checkpoint; materializing runs a Processing job.

A partition is materialized as soon as its manifest lands, so that its state is also the state from
which a run resumes.
"""

from collections.abc import Iterator

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import checkpoint_plan, plan_of_run
from reviewsum_assets.assets.dagster_home import GPU_POOL
from reviewsum_assets.assets.partitions import CHUNK_SUMMARIES, checkpoint_partitions
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.assets.summarize_run import SummarizeRun
from reviewsum_assets.assets.summarizer_model import summarizer_model
from reviewsum_assets.checkpoints.plan import checkpoint_number
from reviewsum_assets.errors import PlanError
from reviewsum_assets.lake_state import overridden_plan


class SummarizeConfig(dg.Config):
    """Options of one run."""

    recompute: bool = False


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            CHUNK_SUMMARIES,
            deps=[checkpoint_plan, summarizer_model],
            skippable=True,
            group_name="summaries",
            kinds={"pytorch", "csv"},
            owners=["team:reviewsum"],
            description=(
                "To compute everything that is pending, launch the job **refresh**; materialize "
                "partitions here to repair those that failed or are missing. This asset holds the "
                "summaries, one partition per checkpoint: "
                "`checkpoint_files/checkpoint_file_N.csv`. The reviews of a product are divided "
                "into chunks, each chunk is summarized, and the chunk summaries are joined. A run "
                "or a backfill of any selection starts one Processing job, on this machine or on "
                "SageMaker. A partition turns green when its checkpoint is complete; complete ones "
                "are not computed again, unless the run's config sets `recompute`. Partitions come "
                "from `checkpoint_plan`: one added by hand cannot be computed. After a new plan "
                "Dagster calls older partitions unsynced, but they are up to date: changes are in "
                "new partitions."
            ),
        )
    ],
    name="chunk_summaries",
    partitions_def=checkpoint_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=GPU_POOL,
)
@fails_plainly
def chunk_summaries(
    context: dg.AssetExecutionContext,
    config: SummarizeConfig,
    pipeline: dg.ResourceParam[Pipeline],
) -> Iterator[dg.MaterializeResult[None]]:
    """Run one job for all requested checkpoints that are not valid yet."""
    plan = plan_of_run(context.instance, context.run, pipeline.lake)
    if not (context.has_partition_key or context.has_partition_key_range):
        raise PlanError("no partition was chosen: choose some, or launch the job refresh")
    requested = plan.chosen(map(checkpoint_number, context.partition_keys))
    for difference in overridden_plan(pipeline.overrides, plan, pipeline.settings):
        context.log.warning(
            f"override without effect: {difference}. Checkpoints are computed as planned; to plan "
            "with this setting, launch the job refresh with it"
        )
    run = SummarizeRun(context, pipeline, plan, requested, recompute=config.recompute)
    run.log_reused()
    run.compute_missing()
    run.log_canaries()
    run.require_all()
    # Every materialization was logged as its checkpoint landed.
    yield from ()
