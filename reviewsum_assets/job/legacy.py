"""The old calling convention: one container, grouped CSV in, checkpoint files and one table out.

The output directory is a lake of its own, so that such a job resumes like any other: started
again over the same output directory it computes only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reviewsum_assets.errors import DumpError
from reviewsum_assets.job.job_result import JobResult
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.whole_lake import summarize_grouped
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews.grouping import group_reviews, scan_grouped
from reviewsum_assets.settings import Settings


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
