"""Summarizes the products that there are references for, on a lake of their own that is kept.

So a model, an engine or other settings are tried on a few products, and called again nothing is
computed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation.product_reviews import ReviewTable
from reviewsum_assets.job.job_result import JobResult
from reviewsum_assets.job.processing import run_job
from reviewsum_assets.job.progress import ProgressReporter
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.whole_lake import summarize_grouped
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import Settings, load_settings


def summarized_lake(
    directory: Path,
    model: str,
    reviews: ReviewTable,
    settings: Settings,
    on_step: Callable[[str], None],
) -> Lake:
    """A lake whose merged table holds summaries of these reviews, by this model.

    Args:
        directory: of the lake, made if need be.
        model: as the setting of that name.
        reviews: of the products to summarize.
        settings: all others that count.
        on_step: told how far it is.

    Raises:
        EvaluationError: some of it could not be summarized; says why.
        ReviewsumError: the model cannot be used.
    """
    lake = Lake.open(str(directory))
    own = load_settings(**{**settings.model_dump(), "lake": lake.uri, "model": model, "dumps": ()})

    def run(spec: JobSpec) -> JobResult:
        reporter = ProgressReporter(lake, spec, say=on_step)
        return run_job(lake, spec, reporter, lambda: False, "local")

    result = summarize_grouped(lake, reviews.grouped.lazy(), reviews.source, own, run)
    if result.failed:
        reasons = "; ".join(dict.fromkeys(result.failed.values()))
        raise EvaluationError(f"model {model} could not summarize the reviews: {reasons}")
    return lake
