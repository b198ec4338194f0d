"""What is known of instance types: how many GPUs they have and what an hour costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reviewsum_assets.compute.base import Capacity

# From creating a Processing job to its first line of code it takes 4 to 8 minutes.
_STARTUP_SECONDS = 360.0


@dataclass(frozen=True)
class InstanceFacts:
    """``usd_per_hour``: on demand for SageMaker Processing in us-east-1; other regions differ."""

    gpus: int
    usd_per_hour: float


# https://aws.amazon.com/sagemaker/pricing/ and https://aws.amazon.com/ec2/instance-types/g5/
_KNOWN = {
    "ml.g4dn.xlarge": InstanceFacts(1, 0.736),
    "ml.g4dn.2xlarge": InstanceFacts(1, 0.94),
    "ml.g4dn.12xlarge": InstanceFacts(4, 4.89),
    "ml.g5.xlarge": InstanceFacts(1, 1.408),
    "ml.g5.2xlarge": InstanceFacts(1, 1.515),
    "ml.g5.4xlarge": InstanceFacts(1, 2.03),
    "ml.g5.8xlarge": InstanceFacts(1, 3.06),
    "ml.g5.12xlarge": InstanceFacts(4, 7.09),
    "ml.g5.16xlarge": InstanceFacts(1, 5.12),
    "ml.g5.24xlarge": InstanceFacts(4, 10.18),
    "ml.g5.48xlarge": InstanceFacts(8, 20.36),
}

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-store-volumes.html
_OWN_DISKS = ("ml.g4dn.", "ml.g5.", "ml.g6.", "ml.g6e.", "ml.p4d.", "ml.p5.", "ml.r5d.")


def instance_facts(instance_type: str) -> InstanceFacts | None:
    """Facts of an instance type, or None if none are known."""
    return _KNOWN.get(instance_type)


def has_own_disk(instance_type: str) -> bool:
    """Whether instances of this type bring a disk, which then replaces the one asked for."""
    return instance_type.startswith(_OWN_DISKS)


def capacity_of(types: Sequence[str], instances: int) -> Capacity:
    """What a job gets on instances of the first type, or of the next where that has no capacity.

    Which one it will be is not known, so the fewest GPUs and the highest price count. An unknown
    type counts as one worker, and leaves all without a price.
    """
    facts = [instance_facts(name) or InstanceFacts(1, 0.0) for name in types]
    is_priced = all(fact.usd_per_hour for fact in facts)
    return Capacity(
        instance_type=" or ".join(types),  # as the job's manifests name it
        instances=instances,
        workers=instances * min(max(1, fact.gpus) for fact in facts),
        usd_per_hour=max(fact.usd_per_hour for fact in facts) if is_priced else 0.0,
        startup_seconds=_STARTUP_SECONDS,
    )
