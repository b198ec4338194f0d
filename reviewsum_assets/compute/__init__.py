"""Where summarization runs: a local process or SageMaker Processing, behind one interface.

In: settings, a plan, its pending checkpoints. Out: started jobs, how they end, what they cost.
"""

from reviewsum_assets.compute.base import Capacity, Compute, JobEnd, Launch, RunningJob
from reviewsum_assets.compute.local import LocalCompute
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage.lake import Lake

__all__ = ["Capacity", "Compute", "JobEnd", "Launch", "RunningJob", "compute_for"]


def compute_for(settings: Settings, lake: Lake) -> Compute:
    """Return the compute that the settings name.

    Raises:
        SettingsError: A setting or library that it needs is missing.
    """
    if settings.compute == "local":
        return LocalCompute(lake, settings.engine_settings())
    # boto3 takes time to import, and is not installed everywhere.
    try:
        from reviewsum_assets.compute.sagemaker import SageMakerCompute
    except ImportError as error:
        raise SettingsError(
            "compute sagemaker needs the AWS libraries: pip install 'reviewsum_assets[aws]'"
        ) from error
    return SageMakerCompute(lake, settings, settings.usd_per_hour)
