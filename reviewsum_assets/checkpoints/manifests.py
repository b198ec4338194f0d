"""Reads the manifests of checkpoints, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reviewsum_assets import places
from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.lake import Lake


def read_manifests(lake: Lake, checkpoints: Iterable[PlannedCheckpoint]) -> Iterator[Manifest]:
    """Every manifest that can be read; whether its checkpoint is valid is not asked."""
    keys = (places.checkpoint_manifest(planned.number) for planned in checkpoints)
    for _, content in lake.contents(keys):
        try:
            yield Manifest.unsealed(content or b"")
        except ValueError:
            continue
