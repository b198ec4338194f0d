"""One run of ``chunk_summaries``: what it waits for, what it takes over, what it leaves alone."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets import places
from reviewsum_assets.compute import Launch, RunningJob
from reviewsum_assets.errors import LakeError
from reviewsum_assets.lake import Lake, LakeObject
from tests.support.pipeline import SmallPipeline, failure_metadata, texts, write_dump


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


def test_what_a_job_was_never_asked_for_is_computed_after_its_failure(
    small: SmallPipeline,
) -> None:
    small.pipeline.lake.put(f"{places.checkpoint_csv(1)}/in the way", b"")
    job = start(small, 1, 2)
    run = small.summarize(2, 3)
    assert run.success
    made_by = {key: shown["job"] for key, shown in small.materializations(run).items()}
    assert made_by.pop("checkpoint_00002") == job.spec.name
    assert made_by.pop("checkpoint_00003") != job.spec.name


def test_what_a_job_was_asked_for_and_failed_over_is_left_to_people(small: SmallPipeline) -> None:
    small.pipeline.lake.put(f"{places.checkpoint_csv(2)}/in the way", b"")
    job = start(small, 1, 2)
    told = failure_metadata(small.summarize(2, 3))
    assert told["failure"] == "checkpoints failed"
    assert told["job"] == job.spec.name


def start(small: SmallPipeline, *numbers: int) -> RunningJob:
    """A job that another process would have started, over these checkpoints."""
    whole = small.job_spec()
    chosen = tuple(planned for planned in whole.checkpoints if planned.number in numbers)
    return small.pipeline.compute.start(
        whole.model_copy(update={"checkpoints": chosen}), Launch(run_id="another")
    )
