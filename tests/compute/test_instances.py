from __future__ import annotations

import pytest

from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.compute.instances import capacity_of, checkpoint_usd
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import checkpoint_manifest
from tests.support.checkpoints import complete, plan_products, products, retime


@pytest.mark.parametrize(
    ("types", "instances", "workers", "usd", "gpu", "speed"),
    [
        ("ml.g5.12xlarge", 2, 8, 7.09, "A10G", 1.0),
        ("ml.g5.12xlarge or ml.g5.16xlarge or ml.g5.24xlarge", 1, 1, 10.18, "A10G", 1.0),
        ("ml.g6.12xlarge or ml.g6e.12xlarge or ml.g4dn.12xlarge", 1, 4, 13.12, "T4", 0.12),
        ("ml.x9.large", 3, 3, 0.0, "", 1.0),  # unknown: one worker without a price
    ],
)
def test_capacity_counts_the_fewest_and_slowest_gpus_and_the_highest_price(
    types: str, instances: int, workers: int, usd: float, gpu: str, speed: float
) -> None:
    found = capacity_of(types.split(" or "), instances)
    assert (found.instances, found.workers, found.usd_per_hour) == (instances, workers, usd)
    assert (found.gpu, found.gpu_speed) == (gpu, speed)
    # As the manifests of such a job have it, so that they calibrate the next estimate.
    assert found.instance_type == types


@pytest.mark.parametrize(
    ("instance_type", "usd_per_hour", "usd"),
    [
        ("ml.g5.12xlarge", None, 0.5 * 7.09 / 4),
        ("ml.g5.12xlarge", 8.0, 0.5 * 8.0 / 4),
        ("ml.g5.xlarge or ml.g5.2xlarge", None, 0.5 * 1.515),
        ("ml.unheard.of", 2.0, 0.5 * 2.0),
        ("ml.unheard.of", None, None),
        ("local", None, None),
        ("local", 3.0, None),
    ],
)
def test_a_checkpoint_costs_its_workers_share_of_the_instance(
    lake: Lake, instance_type: str, usd_per_hour: float | None, usd: float | None
) -> None:
    complete(lake, plan_products(lake, products(2)).plan)
    retime(lake, 1, seconds=1800.0, instance_type=instance_type)
    manifest = Manifest.model_validate_json(lake.get(checkpoint_manifest(1)) or b"")
    found = checkpoint_usd(manifest, usd_per_hour)
    assert found == (None if usd is None else pytest.approx(usd))
