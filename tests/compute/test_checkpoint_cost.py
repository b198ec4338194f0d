from __future__ import annotations

import pytest

from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.compute.instances import checkpoint_usd
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import checkpoint_manifest
from tests.support.checkpoints import complete, plan_products, products, retime


def manifest(lake: Lake, instance_type: str) -> Manifest:
    """Of a checkpoint that took a worker there half an hour."""
    complete(lake, plan_products(lake, products(2)).plan)
    retime(lake, 1, seconds=1800.0, instance_type=instance_type)
    return Manifest.model_validate_json(lake.get(checkpoint_manifest(1)) or b"")


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
    found = checkpoint_usd(manifest(lake, instance_type), usd_per_hour)
    assert found == (None if usd is None else pytest.approx(usd))
