"""Takes a lake from grouped reviews to the merged table within one process, without orchestration.

What is there already is not computed again, as in every job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.errors import DumpError
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.job.progress import JobResult
from reviewsum_assets.job.spec import JobSpec, job_spec
from reviewsum_assets.reviews.grouping import group_reviews, scan_grouped
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage.lake import Lake


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


@dataclass(frozen=True)
class ContainerPaths:
    """Where a Processing container finds its input and leaves its output."""

    input_dir: Path = Path("/opt/ml/processing/input")
    model_dir: Path = Path("/opt/ml/processing/pegasus_model")
    output_dir: Path = Path("/opt/ml/processing/output")

    def settings(self) -> dict[str, object]:
        """The settings these paths stand for.

        Raises:
            DumpError: there is not exactly one grouped CSV under the input directory.
        """
        return {
            "lake": str(self.output_dir),
            "model": str(self.model_dir),
            "dumps": (str(self._grouped_csv()),),
        }

    def _grouped_csv(self) -> Path:
        found = sorted(self.input_dir.rglob("product_grouped*.csv")) or sorted(
            self.input_dir.rglob("*.csv")
        )
        if len(found) != 1:
            listed = ", ".join(map(str, found)) or "none"
            raise DumpError(
                f"expected one grouped CSV under {self.input_dir} (product_grouped.csv), "
                f"found: {listed}"
            )
        return found[0]


def run_legacy(
    paths: ContainerPaths, settings: Settings, run: Callable[[JobSpec], JobResult]
) -> int:
    """Group, plan, summarize and merge within one process; returns the job's exit code.

    Args:
        paths: of the container.
        settings: those of ``paths.settings()`` and the caller's.
        run: computes a job spec.
    """
    lake = Lake.open(str(paths.output_dir))
    grouped, _ = group_reviews(lake, settings)
    scanned = scan_grouped(lake, grouped)
    return summarize_grouped(lake, scanned, grouped.version, settings, run).exit_code
