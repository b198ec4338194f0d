"""What one reconciliation leaves for the next, so that it is short and calls nothing lost in haste.

It is a sensor's cursor: digests stand for what would be long at 10,000 checkpoints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Seen(BaseModel):
    """What was seen and settled, by group of checkpoints; what is in doubt, by partition key.

    ``listings`` has the digest with which a group, or the merged table, was listed when all of it
    was looked at. ``invalid`` is a digest of the checkpoints there that were not valid, and shown
    so. ``doubts`` are reasons for which something seemed lost: a second look decides.
    """

    model_config = ConfigDict(frozen=True)

    listings: dict[str, str] = Field(default_factory=dict)
    invalid: dict[str, str] = Field(default_factory=dict)
    doubts: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of_cursor(cls, cursor: str | None) -> Seen:
        """What a cursor holds: nothing if there is none, or if another version wrote it."""
        try:
            return cls.model_validate_json(cursor or "{}")
        except ValidationError:
            return cls()


def digest_of(numbers: Iterable[int]) -> str:
    """A short name for a set of checkpoints; empty for none."""
    ordered = sorted(numbers)
    return hashlib.sha256(json.dumps(ordered).encode()).hexdigest()[:12] if ordered else ""
