"""Rewrites records of a lake, with valid checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake


def write_record(lake: Lake, key: str, document: Any) -> None:
    """Write a record with a checksum of its own."""
    body = json.dumps(document).encode()
    if isinstance(document, dict):
        body = json.dumps({k: v for k, v in document.items() if k != "checksum"}).encode()[:-1]
        body = b'%s,"checksum":"%s"}' % (body, hashlib.sha256(body).hexdigest().encode())
    lake.put(key, body)


def rewrite(lake: Lake, key: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a record."""
    document = json.loads(lake.get(key) or b"")
    change(document)
    write_record(lake, key, document)


def replace_table(lake: Lake, content: bytes) -> None:
    """Give the current plan another table, and the hash of it."""
    plan = require_plan(lake)
    lake.put(places.plan_table(plan.plan_id), content)
    digest = hashlib.sha256(content).hexdigest()
    rewrite(lake, places.plan_document(plan.sequence), lambda p: p.update(table_sha256=digest))
