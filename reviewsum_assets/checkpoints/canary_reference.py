"""What the first worker of a recipe said of the canary texts, and on what: the reference.

Whoever says something else later, on another GPU, engine or library, has drifted from it. To
take another worker's word for it, remove the object: the next worker records it anew.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from reviewsum_assets import places
from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.lake import Lake


def record_reference(lake: Lake, recipe_key: str, producer: Producer) -> None:
    """Record a worker and what it said, unless another one was first.

    Raises:
        LakeError: it cannot be written.
    """
    key = places.canary_reference(recipe_key)
    lake.create(key, producer.sealed())


def read_reference(lake: Lake, recipe_key: str) -> Producer | None:
    """The reference of a recipe; None if there is none that can be read."""
    try:
        return Producer.unsealed(lake.get(places.canary_reference(recipe_key)) or b"")
    except ValueError:
        return None


def damaged_references(lake: Lake) -> list[str]:
    """Keys of the references that cannot be read."""
    found = [item.key for item in lake.list(places.CANARY_SUMMARIES)]
    return [key for key in found if read_reference(lake, PurePosixPath(key).stem) is None]
