"""What the first worker of a recipe said of the canary texts, and on what: the reference.

Whoever says something else later, on another GPU, engine or library, has drifted from it. To
take another worker's word for it, remove the object: the next worker records it anew.
"""

from __future__ import annotations

from pydantic import ValidationError

from reviewsum_assets import lake as places
from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.lake import Lake


def record_reference(lake: Lake, recipe_key: str, producer: Producer) -> None:
    """Record a worker and what it said, unless another one was first.

    Raises:
        LakeError: it cannot be written.
    """
    key = places.canary_reference(recipe_key)
    lake.create(key, producer.model_dump_json(indent=1).encode())


def read_reference(lake: Lake, recipe_key: str) -> Producer | None:
    """The reference of a recipe; None if there is none that can be read."""
    try:
        return Producer.model_validate_json(lake.get(places.canary_reference(recipe_key)) or b"")
    except ValidationError:
        return None
