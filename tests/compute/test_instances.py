from __future__ import annotations

import pytest

from reviewsum_assets.compute.instances import capacity_of, instance_facts


def test_capacity_is_the_gpus_and_the_price_of_all_instances() -> None:
    found = capacity_of(["ml.g5.12xlarge"], 2)
    assert (found.instances, found.workers, found.usd_per_hour) == (2, 8, 7.09)


def test_with_fallbacks_the_fewest_gpus_and_the_highest_price_count() -> None:
    found = capacity_of(["ml.g5.12xlarge", "ml.g5.16xlarge", "ml.g5.24xlarge"], 1)
    assert (found.workers, found.usd_per_hour) == (1, 10.18)
    # As the manifests of such a job have it, so that they calibrate the next estimate.
    assert found.instance_type == "ml.g5.12xlarge or ml.g5.16xlarge or ml.g5.24xlarge"


def test_fallbacks_across_families_count_the_slowest_gpu_and_the_highest_price() -> None:
    found = capacity_of(["ml.g6.12xlarge", "ml.g6e.12xlarge", "ml.g4dn.12xlarge"], 1)
    assert (found.workers, found.usd_per_hour) == (4, 13.12)
    assert (found.gpu, found.gpu_speed) == ("T4", 0.12)


@pytest.mark.parametrize("size", ["xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge"])
@pytest.mark.parametrize("family", ["g4dn", "g5", "g6"])
def test_every_size_of_a_common_family_has_a_price(family: str, size: str) -> None:
    facts = instance_facts(f"ml.{family}.{size}")
    assert facts is not None
    assert facts.gpus == (4 if size == "12xlarge" else 1)
    assert facts.gpu.memory_gb == (16 if family == "g4dn" else 24)


def test_an_unknown_type_is_one_worker_without_a_price() -> None:
    found = capacity_of(["ml.x9.large"], 3)
    assert (found.workers, found.usd_per_hour) == (3, 0.0)
