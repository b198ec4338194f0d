"""One run of ``chunk_summaries``: what it waits for, what it takes over, what it leaves alone."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets import places
from reviewsum_assets.errors import LakeError
from reviewsum_assets.lake import Lake, LakeObject
from tests.support.pipeline import SmallPipeline, texts, write_dump


@pytest.fixture
def small(instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path) -> SmallPipeline:
    """Six products in three checkpoints, planned."""
    dump = write_dump(tmp_path / "dump.csv", texts(6))
    small = SmallPipeline.build(instance, lake, pegasus, dump, engine="transformers")
    assert small.execute("ingest").success
    return small


def test_a_lake_that_is_lost_at_a_jobs_end_is_asked_again_at_the_usual_pace(
    small: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[float] = []
    listing = Lake.list

    def has_ended() -> bool:
        is_started = bool(listing(small.pipeline.lake, places.PROCESSING_JOBS))
        return is_started and not small.pipeline.compute.live_jobs()

    def refusing(lake: Lake, prefix: str) -> list[LakeObject]:
        if prefix == places.CHECKPOINT_MANIFESTS and has_ended() and len(refused) < 4:
            refused.append(time.monotonic())
            raise LakeError("cannot list: ExpiredToken: The provided token has expired.")
        return listing(lake, prefix)

    monkeypatch.setattr(Lake, "list", refusing)
    assert small.summarize(1, 1).success
    pauses = [later - earlier for earlier, later in pairwise(refused)]
    assert len(pauses) == 3
    assert min(pauses) >= small.pipeline.compute.poll_seconds
