"""Instance types of SageMaker: their GPUs, and the price of an hour."""

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


T4 = GpuFacts("T4", 16, 0.12)  # has no bfloat16, so that jobs use float32
A10G = GpuFacts("A10G", 24, 1.0)
L4 = GpuFacts("L4", 24, 0.5)
L40S = GpuFacts("L40S", 48, 1.4)
_UNKNOWN = GpuFacts("", 0, 1.0)


@dataclass(frozen=True)
class InstanceFacts:
    """``usd_per_hour``: on demand in us-east-1; other regions differ."""

    gpus: int
    usd_per_hour: float
    gpu: GpuFacts = A10G


# https://aws.amazon.com/sagemaker/pricing/ , which lists training and processing alike, and
# https://aws.amazon.com/ec2/instance-types/#Accelerated_Computing ; read in 2026.
_KNOWN = {
    "ml.g4dn.xlarge": InstanceFacts(1, 0.736, T4),
    "ml.g4dn.2xlarge": InstanceFacts(1, 0.94, T4),
    "ml.g4dn.4xlarge": InstanceFacts(1, 1.505, T4),
    "ml.g4dn.8xlarge": InstanceFacts(1, 2.72, T4),
    "ml.g4dn.12xlarge": InstanceFacts(4, 4.89, T4),
    "ml.g4dn.16xlarge": InstanceFacts(1, 5.44, T4),
    "ml.g5.xlarge": InstanceFacts(1, 1.408),
    "ml.g5.2xlarge": InstanceFacts(1, 1.515),
    "ml.g5.4xlarge": InstanceFacts(1, 2.03),
    "ml.g5.8xlarge": InstanceFacts(1, 3.06),
    "ml.g5.12xlarge": InstanceFacts(4, 7.09),
    "ml.g5.16xlarge": InstanceFacts(1, 5.12),
    "ml.g5.24xlarge": InstanceFacts(4, 10.18),
    "ml.g5.48xlarge": InstanceFacts(8, 20.36),
    "ml.g6.xlarge": InstanceFacts(1, 1.127, L4),
    "ml.g6.2xlarge": InstanceFacts(1, 1.222, L4),
    "ml.g6.4xlarge": InstanceFacts(1, 1.654, L4),
    "ml.g6.8xlarge": InstanceFacts(1, 2.518, L4),
    "ml.g6.12xlarge": InstanceFacts(4, 5.752, L4),
    "ml.g6.24xlarge": InstanceFacts(4, 8.344, L4),
    "ml.g6.48xlarge": InstanceFacts(8, 16.688, L4),
    "ml.g6e.xlarge": InstanceFacts(1, 2.61, L40S),
    "ml.g6e.2xlarge": InstanceFacts(1, 2.80, L40S),
    "ml.g6e.12xlarge": InstanceFacts(4, 13.12, L40S),
    "ml.g6e.48xlarge": InstanceFacts(8, 37.66, L40S),
}

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-store-volumes.html
_OWN_DISKS = ("ml.g4dn.", "ml.g5.", "ml.g6.", "ml.g6e.", "ml.p4d.", "ml.p5.", "ml.r5d.")
_GPU_FAMILIES = ("ml.g", "ml.p")


def instance_facts(instance_type: str) -> InstanceFacts | None:
    """Facts of an instance type, or None if none are known."""
    return _KNOWN.get(instance_type)


def has_gpus(instance_type: str) -> bool:
    """Whether instances of this type have GPUs, also of those without known facts."""
    return instance_type.startswith(_GPU_FAMILIES)


def has_own_disk(instance_type: str) -> bool:
    """Whether instances of this type bring a disk, which then replaces the one asked for."""
    return instance_type.startswith(_OWN_DISKS)


def capacity_of(types: Sequence[str], instances: int) -> Capacity:
    """What a job gets on instances of the first type, or of the next where that has no capacity.

    Which one it will be is not known, so each figure is the worst among them: the fewest GPUs, the
    slowest GPU, the highest price. An unknown type counts as one worker, and leaves all without a
    price.
    """
    facts = [instance_facts(name) or InstanceFacts(1, 0.0, _UNKNOWN) for name in types]
    is_priced = all(fact.usd_per_hour for fact in facts)
    return Capacity(
        instance_type=" or ".join(types),  # as the job's manifests name it
        instances=instances,
        workers=instances * min(max(1, fact.gpus) for fact in facts),
        usd_per_hour=max(fact.usd_per_hour for fact in facts) if is_priced else 0.0,
        startup_seconds=_STARTUP_SECONDS,
        gpu=min((fact.gpu for fact in facts), key=lambda gpu: gpu.speed).name,
        gpu_speed=min(fact.gpu.speed for fact in facts),
    )


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
