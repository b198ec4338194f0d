"""The jobs that people, sensors and the schedule launch, and the schedule."""

from __future__ import annotations

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import checkpoint_plan
from reviewsum_assets.assets.chunk_summaries import chunk_summaries
from reviewsum_assets.assets.grouped_reviews import grouped_reviews
from reviewsum_assets.assets.merged_summaries import merged_summaries
from reviewsum_assets.assets.partitions import REFRESH
from reviewsum_assets.assets.product_facts import product_facts
from reviewsum_assets.assets.summarizer_model import summarizer_model
from reviewsum_assets.assets.summary_evidence import summary_evidence
from reviewsum_assets.assets.summary_report import summary_report
from reviewsum_assets.errors import SettingsError

PURPOSE_TAG = "reviewsum/purpose"

# Before working hours in Europe, at night in America.
_DAILY = "0 5 * * *"

refresh = dg.define_asset_job(
    REFRESH,
    selection=dg.AssetSelection.assets(
        *(grouped_reviews, product_facts, summarizer_model, checkpoint_plan),
        *(merged_summaries, summary_evidence, summary_report),
    ),
    description=(
        "Costs money where jobs run on AWS. Does everything: reads the dumps, plans new and "
        "changed products, logs the cost, computes with one Processing job, and merges. Partitions "
        "of chunk_summaries turn green as they land. max_cost_usd limits the cost. On an empty "
        "lake with local compute it uses the sample reviews."
    ),
)
ingest = dg.define_asset_job(
    "ingest",
    selection=dg.AssetSelection.assets(grouped_reviews, summarizer_model, checkpoint_plan),
    description="Free of cost. Reads the dumps, prepares the model and plans new and changed "
    "products; step one of refresh.",
)
summarize = dg.define_asset_job(
    "summarize",
    # A run logs the result of its check itself, see ``log_canaries``.
    selection=dg.AssetSelection.assets(chunk_summaries).without_checks(),
    description="Costs money where jobs run on AWS. Computes the chosen checkpoints with one "
    "Processing job; step two of refresh.",
)
merge = dg.define_asset_job(
    "merge",
    selection=dg.AssetSelection.assets(merged_summaries)
    | dg.AssetSelection.checks_for_assets(chunk_summaries),
    description="Free of cost. Merges all checkpoints of the current plan into one table and "
    "checks it. Refresh also brings evidence and report up to date.",
)


def refresh_schedule(cron: str) -> dg.ScheduleDefinition:
    """The schedule ``refresh_schedule``; running by default if ``cron`` is not empty.

    Raises:
        SettingsError: ``cron`` is not a cron schedule.
    """
    status = dg.DefaultScheduleStatus
    try:
        return dg.ScheduleDefinition(
            name="refresh_schedule",
            job=refresh,
            cron_schedule=cron or _DAILY,
            tags={PURPOSE_TAG: "schedule"},
            default_status=status.RUNNING if cron else status.STOPPED,
            description=(
                "Costs money where jobs run on AWS. Launches refresh at fixed times (setting "
                "refresh_cron). Unchanged dumps are not read again, and nothing is computed twice."
            ),
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise SettingsError(
            f"refresh_cron {cron!r} is not a cron schedule: expected five fields (minute, hour, "
            "day of month, month, day of week), e.g. '0 5 * * 1-5'"
        ) from error
