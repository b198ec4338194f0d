"""Instance types of SageMaker: their GPUs, and the price per hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.compute.base import Capacity

# From creating a Processing job to its first line of code it takes 4 to 8 minutes.
_STARTUP_SECONDS = 360.0


@dataclass(frozen=True)
class GpuFacts:
    """One kind of GPU: its name, memory in GB, and speed relative to an A10G.

    Speeds are modelled from the rate of matrix products in the type that a job uses and from the
    memory bandwidth, whichever is the smaller multiple of the A10G's; none was measured.
    """

    name: str
    memory_gb: int
    speed: float


@dataclass(frozen=True)
class InstanceFacts:
    """``usd_per_hour``: on demand in us-east-1; other regions differ."""

    gpus: int
    usd_per_hour: float
    gpu: GpuFacts


_GPUS = {
    "g4dn": GpuFacts("T4", 16, 0.12),  # has no bfloat16, so that jobs use float32
    "g5": GpuFacts("A10G", 24, 1.0),
    "g6": GpuFacts("L4", 24, 0.5),
    "g6e": GpuFacts("L40S", 48, 1.4),
}
_UNKNOWN = InstanceFacts(1, 0.0, GpuFacts("", 0, 1.0))
# USD per hour of the sizes in order.
# https://aws.amazon.com/sagemaker/pricing/ , which lists training and processing alike, and
# https://aws.amazon.com/ec2/instance-types/#Accelerated_Computing ; read in 2026.
_SIZES = ("xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge", "24xlarge", "48xlarge")
_USD_PER_HOUR = {
    "g4dn": (0.736, 0.94, 1.505, 2.72, 4.89, 5.44, None, None),
    "g5": (1.408, 1.515, 2.03, 3.06, 7.09, 5.12, 10.18, 20.36),
    "g6": (1.127, 1.222, 1.654, 2.518, 5.752, None, 8.344, 16.688),
    "g6e": (2.61, 2.80, None, None, 13.12, None, None, 37.66),
}
_GPU_COUNTS = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}  # the other sizes have one
_GPU_FAMILIES = ("ml.g", "ml.p")


def instance_facts(instance_type: str) -> InstanceFacts | None:
    """Return the facts of an instance type, or None if none are known."""
    _, family, size = (*instance_type.split("."), "", "")[:3]
    prices = dict(zip(_SIZES, _USD_PER_HOUR.get(family, ()), strict=False))
    price = prices.get(size)
    return None if price is None else InstanceFacts(_GPU_COUNTS.get(size, 1), price, _GPUS[family])


def has_gpus(instance_type: str) -> bool:
    """Whether instances of this type, with or without known facts, have GPUs."""
    return instance_type.startswith(_GPU_FAMILIES)


def capacity_of(
    types: Sequence[str], instances: int, usd_per_hour: float | None = None
) -> Capacity:
    """Return the capacity on instances of the first type, or of the next if that has no capacity.

    The type is not known in advance, so each figure is the worst among them: the fewest GPUs, the
    slowest GPU, the highest price. An unknown type counts as one worker, and leaves all without a
    price. ``usd_per_hour`` is the price of one instance; None: the known price of its type.
    """
    facts = [instance_facts(name) or _UNKNOWN for name in types]
    slowest = min((fact.gpu for fact in facts), key=lambda gpu: gpu.speed)
    prices = [fact.usd_per_hour for fact in facts]
    known = max(prices) if all(prices) else 0.0
    return Capacity(
        instance_type=" or ".join(types),  # as the job's manifests name it
        instances=instances,
        workers=instances * min(max(1, fact.gpus) for fact in facts),
        usd_per_hour=known if usd_per_hour is None else usd_per_hour,
        startup_seconds=_STARTUP_SECONDS,
        gpu=slowest.name,
        gpu_speed=slowest.speed,
    )


def checkpoint_usd(manifest: Manifest, usd_per_hour: float | None) -> float | None:
    """Return the price in USD of a checkpoint's worker time, or None where nothing is billed.

    Loading the model and idle workers are not included, so the checkpoints of a job add up to less
    than its bill.
    """
    if manifest.producer.instance_type == "local":
        return None
    capacity = capacity_of(manifest.producer.instance_type.split(" or "), 1, usd_per_hour)
    price = capacity.usd_per_hour
    return manifest.worker_seconds / 3600 * price / capacity.workers if price else None
