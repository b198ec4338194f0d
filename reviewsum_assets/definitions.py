"""Assembles the Dagster definitions, and does nothing else."""

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import checkpoint_plan
from reviewsum_assets.assets.checks import grouped_reviews_checks, merged_summaries_checks
from reviewsum_assets.assets.chunk_summaries import chunk_summaries
from reviewsum_assets.assets.dagster_home import locking_executor
from reviewsum_assets.assets.grouped_reviews import grouped_reviews, review_dumps
from reviewsum_assets.assets.merged_summaries import checkpoint_files, merged_summaries
from reviewsum_assets.assets.pipeline import pipeline_resource
from reviewsum_assets.assets.product_facts import product_facts
from reviewsum_assets.assets.quality_checks import canary_check, summary_quality_checks
from reviewsum_assets.assets.summarizer_model import summarizer_model
from reviewsum_assets.assets.summary_evidence import evidence_check, summary_evidence
from reviewsum_assets.assets.summary_report import summary_report
from reviewsum_assets.automation.alerts import alert_on_failure
from reviewsum_assets.automation.jobs import ingest, merge, refresh, refresh_schedule, summarize
from reviewsum_assets.automation.sensors import (
    new_dumps,
    reconcile_checkpoints,
    stop_abandoned_jobs,
)
from reviewsum_assets.settings import load_automation_settings

defs = dg.Definitions(
    assets=[
        review_dumps,
        grouped_reviews,
        product_facts,
        summarizer_model,
        checkpoint_plan,
        chunk_summaries,
        checkpoint_files,
        merged_summaries,
        summary_evidence,
        summary_report,
    ],
    asset_checks=[
        grouped_reviews_checks,
        canary_check,
        merged_summaries_checks,
        summary_quality_checks,
        evidence_check,
    ],
    jobs=[refresh, ingest, summarize, merge],
    schedules=[refresh_schedule(load_automation_settings().refresh_cron)],
    sensors=[
        new_dumps,
        reconcile_checkpoints,
        stop_abandoned_jobs,
        alert_on_failure,
    ],
    resources={"pipeline": pipeline_resource},
    executor=locking_executor,
)
