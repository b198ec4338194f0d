"""Where summarization runs: a local process now, other machines behind the same interface."""

from reviewsum_assets.compute.base import Capacity, Compute, JobEnd, RunningJob
from reviewsum_assets.compute.local import LocalCompute
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import Settings

__all__ = ["Capacity", "Compute", "JobEnd", "RunningJob", "compute_for"]


def compute_for(settings: Settings, lake: Lake) -> Compute:
    """The compute that the settings name."""
    match settings.compute:
        case "local":
            return LocalCompute(lake, settings.engine_settings())
