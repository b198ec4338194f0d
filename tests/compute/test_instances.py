from __future__ import annotations

from reviewsum_assets.compute.instances import capacity_of


def test_capacity_is_the_gpus_and_the_price_of_all_instances() -> None:
    found = capacity_of(["ml.g5.12xlarge"], 2)
    assert (found.instances, found.workers, found.usd_per_hour) == (2, 8, 7.09)


def test_with_fallbacks_the_fewest_gpus_and_the_highest_price_count() -> None:
    found = capacity_of(["ml.g5.12xlarge", "ml.g5.16xlarge", "ml.g5.24xlarge"], 1)
    assert (found.workers, found.usd_per_hour) == (1, 10.18)
    # As the manifests of such a job have it, so that they calibrate the next estimate.
    assert found.instance_type == "ml.g5.12xlarge or ml.g5.16xlarge or ml.g5.24xlarge"


def test_an_unknown_type_is_one_worker_without_a_price() -> None:
    found = capacity_of(["ml.x9.large"], 3)
    assert (found.workers, found.usd_per_hour) == (3, 0.0)
