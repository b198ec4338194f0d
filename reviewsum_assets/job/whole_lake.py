"""Takes a lake from grouped reviews to the merged table within one process, without orchestration.

What is there already is not computed again, as in every job.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.job.conversion import ensure_converted
from reviewsum_assets.job.job_result import JobResult
from reviewsum_assets.job.model_directory import ready_model
from reviewsum_assets.job.spec import JobSpec, job_spec
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import Settings


def summarize_grouped(
    lake: Lake,
    grouped: pl.LazyFrame,
    grouped_version: str,
    settings: Settings,
    run: Callable[[JobSpec], JobResult],
) -> JobResult:
    """Make the model ready, plan, summarize, and merge if everything landed.

    Args:
        lake: where to.
        grouped: one row a product with product_id, all_reviews and review_count.
        grouped_version: names the state of ``grouped``, for the record.
        settings: model, summaries, engine and ``top_k``.
        run: computes a job spec.

    Raises:
        ReviewsumError: the model cannot be used, or nothing is left to plan; says why.
    """
    model, _ = ready_model(lake, settings)
    if settings.engine != "transformers":
        ensure_converted(lake, model)
    plan = make_plan(lake, grouped, grouped_version, model.version, settings).plan
    result = run(job_spec(plan, plan.checkpoints, lake=lake.uri, engine=settings.engine_settings()))
    if result.exit_code == 0:
        merge_checkpoints(lake, plan)
    return result
