"""What a finished checkpoint has cost: its share of the instance that computed it."""

from __future__ import annotations

from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.compute.instances import capacity_of


def checkpoint_usd(manifest: Manifest, usd_per_hour: float | None) -> float | None:
    """USD for the time one of the instance's workers spent on it, or None where nobody is billed.

    Loading the model and idle workers are not in it, so the checkpoints of a job add up to less
    than its bill.

    Args:
        manifest: of the checkpoint.
        usd_per_hour: price of one instance; None: what is known of its type.
    """
    if manifest.producer.instance_type == "local":
        return None
    capacity = capacity_of(manifest.producer.instance_type.split(" or "), instances=1)
    price = capacity.usd_per_hour if usd_per_hour is None else usd_per_hour
    return manifest.worker_seconds / 3600 * price / capacity.workers if price else None
