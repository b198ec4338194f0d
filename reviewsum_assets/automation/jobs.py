"""The jobs that people, sensors and the schedule launch, and the tag that says what for."""

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import checkpoint_plan
from reviewsum_assets.assets.chunk_summaries import chunk_summaries
from reviewsum_assets.assets.grouped_reviews import grouped_reviews
from reviewsum_assets.assets.merged_summaries import merged_summaries
from reviewsum_assets.assets.summarizer_model import summarizer_model

PURPOSE_TAG = "reviewsum/purpose"
REFRESH_OPS = {"merged_summaries": {"config": {"compute_pending": True}}}

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(
        grouped_reviews, summarizer_model, checkpoint_plan, merged_summaries
    ),
    config={"ops": REFRESH_OPS},
    description=(
        "Costs money where jobs run on AWS. Does it all: reads the dumps, plans what is new or "
        "changed, logs what that will cost, computes it with one Processing job, and merges. "
        "Partitions of chunk_summaries turn green as they land. max_cost_usd limits the cost."
    ),
)
ingest = dg.define_asset_job(
    "ingest",
    selection=dg.AssetSelection.assets(grouped_reviews, summarizer_model, checkpoint_plan),
    description="First: reads the dumps, makes the model ready and plans what is new or changed.",
)
summarize = dg.define_asset_job(
    "summarize",
    # A run logs what its check would find, see ``log_canaries``.
    selection=dg.AssetSelection.assets(chunk_summaries).without_checks(),
    description="Second, and what costs: computes the chosen checkpoints with one Processing job.",
)
merge = dg.define_asset_job(
    "merge",
    selection=dg.AssetSelection.assets(merged_summaries)
    | dg.AssetSelection.checks_for_assets(chunk_summaries),
    description="Last: merges all checkpoints of the current plan into one table, and checks it.",
)
