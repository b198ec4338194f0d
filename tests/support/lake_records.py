"""Rewrites records of a lake, as somebody may who knows of seals, hashes and copies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from reviewsum_assets import places
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.lake import Lake


def write_record(lake: Lake, key: str, document: Any) -> None:
    """Write a record without a seal, as older versions did; of a plan the copy too."""
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if name != "seal"}
    content = json.dumps(document).encode()
    lake.put(key, content)
    if key.startswith(places.PLANS):
        lake.put(places.plan_copy(key), content)


def rewrite(lake: Lake, key: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a record."""
    document = json.loads(lake.get(key) or b"")
    change(document)
    write_record(lake, key, document)


def replace_table(lake: Lake, content: bytes) -> None:
    """Give the current plan another table, with its copy, and the hash of it."""
    plan = require_plan(lake)
    key = places.plan_table(plan.plan_id)
    for place in (key, places.plan_copy(key)):
        lake.put(place, content)
    digest = hashlib.sha256(content).hexdigest()
    rewrite(lake, places.plan_document(plan.sequence), lambda p: p.update(table_sha256=digest))
