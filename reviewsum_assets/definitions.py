"""Assembles the Dagster definitions, and does nothing else."""

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import checkpoint_plan
from reviewsum_assets.assets.chunk_summaries import chunk_summaries
from reviewsum_assets.assets.grouped_reviews import grouped_reviews
from reviewsum_assets.assets.grouped_reviews_checks import grouped_reviews_checks
from reviewsum_assets.assets.merged_summaries import merged_summaries
from reviewsum_assets.assets.merged_summaries_checks import merged_summaries_checks
from reviewsum_assets.assets.pipeline import pipeline_resource
from reviewsum_assets.assets.review_dumps import review_dumps
from reviewsum_assets.assets.summarizer_model import summarizer_model
from reviewsum_assets.assets.summary_quality_checks import summary_quality_checks
from reviewsum_assets.automation.abandoned_jobs import stop_abandoned_jobs

ingest = dg.define_asset_job(
    "ingest",
    selection=dg.AssetSelection.assets(grouped_reviews, summarizer_model, checkpoint_plan),
    description="First: reads the dumps, makes the model ready and plans what is new or changed.",
)
summarize = dg.define_asset_job(
    "summarize",
    selection=dg.AssetSelection.assets(chunk_summaries),
    description="Second, and what costs: computes the chosen checkpoints with one Processing job.",
)
merge = dg.define_asset_job(
    "merge",
    selection=dg.AssetSelection.assets(merged_summaries),
    description="Last: merges all checkpoints of the current plan into one table, and checks it.",
)

defs = dg.Definitions(
    assets=[
        review_dumps,
        grouped_reviews,
        summarizer_model,
        checkpoint_plan,
        chunk_summaries,
        merged_summaries,
    ],
    asset_checks=[grouped_reviews_checks, merged_summaries_checks, summary_quality_checks],
    jobs=[ingest, summarize, merge],
    sensors=[stop_abandoned_jobs],
    resources={"pipeline": pipeline_resource},
)
