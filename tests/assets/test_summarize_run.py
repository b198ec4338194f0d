"""One run of ``chunk_summaries``: what it waits for, what it takes over, what it leaves alone."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from reviewsum_assets.assets.job_messages import JobMessages
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.compute import Launch, RunningJob
from reviewsum_assets.errors import LakeError
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake, LakeObject
from reviewsum_assets.storage.places import message_key
from tests.support.checkpoints import complete
from tests.support.hostile import TEXTS
from tests.support.partitions import range_tags
from tests.support.pipeline import SmallPipeline, failure, failure_metadata, texts

RECOMPUTE = {"chunk_summaries": {"config": {"recompute": True}}}


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
    small = small.with_settings(engine="transformers")  # slow enough to be attached to
    small.pipeline.lake.put(f"{places.checkpoint_csv(2)}/in the way", b"")
    job = start(small, 1, 2)
    found = failure_metadata(small.summarize(2, 3))
    assert found["failure"] == "checkpoints failed"
    assert found["job"] == job.spec.name


def test_damaged_messages_do_not_end_the_run(lake: Lake, instance: dg.DagsterInstance) -> None:
    message: dict[str, Any] = {"method": "log", "params": {"message": "after all", "level": "INFO"}}
    damaged = [
        *(b"", b"{", b"\xff", b"null", b"[" * 100_000),
        *(json.dumps({"method": text, "params": {}}).encode() for text in TEXTS),
        *(json.dumps({**message, "params": text}).encode() for text in TEXTS),
        json.dumps({"method": "log", "params": {"message": 5, "level": "none"}}).encode(),
    ]
    for number, content in enumerate([*damaged, json.dumps(message).encode()], 1):
        lake.put(message_key("job", number), content)

    @dg.asset
    def waiting(context) -> None:  # type: ignore[no-untyped-def]  # Dagster cannot read a string
        JobMessages(context, lake, "job").pass_on()

    run = dg.materialize([waiting], instance=instance)
    logged = "\n".join(entry.user_message for entry in instance.all_logs(run.run_id))
    for number in range(1, len(damaged) + 1):
        assert f"message {number} of the job cannot be read" in logged
    assert "after all" in logged


def test_a_run_without_any_summary_fails_and_one_bad_checkpoint_among_good_ones_does_not(
    small: SmallPipeline,
) -> None:
    lake, plan = small.pipeline.lake, require_plan(small.pipeline.lake)
    complete(lake, plan, poison=texts(6))
    evidence = lake.list(places.CHECKPOINT_MANIFESTS)
    for run in (small.summarize(1, 3), small.refresh()):
        assert "all 6 are in quarantine, 6 of them for this reason: poison" in failure(run)
    assert lake.list(places.CHECKPOINT_MANIFESTS) == evidence
    assert lake.get(places.MERGED_CSV) is None
    complete(lake, plan, [1, 2])
    assert small.summarize(3, 3).success
    assert small.refresh().success


class TestRecompute:
    """Of checkpoints 1 and 2, where 2 cannot be written at first."""

    @pytest.fixture(autouse=True)
    def _failed(self, small: SmallPipeline) -> None:
        self.small, self.lake = small, small.pipeline.lake
        complete(self.lake, require_plan(self.lake))
        self.lake.delete(places.checkpoint_csv(2))
        self.in_the_way = f"{places.checkpoint_csv(2)}/in the way"
        self.lake.put(self.in_the_way, b"")
        self.failed = small.summarize(1, 2, **RECOMPUTE)
        assert "Checkpoints that landed are kept: re-execute this run" in failure(self.failed)

    def clear_the_way(self) -> None:
        self.lake.delete(self.in_the_way)
        Path(self.lake.uri, places.checkpoint_csv(2)).rmdir()

    def again(self, run: Any) -> Any:
        """What the UI does, and the daemon after a crash: the same range and config."""
        tags = {"dagster/parent_run_id": run.run_id, "dagster/root_run_id": self.failed.run_id}
        return self.small.execute("summarize", {**range_tags(1, 2), **tags}, **RECOMPUTE)

    def reused(self, run: Any) -> list[bool]:
        found = self.small.materializations(run)
        return [shown["reused"] for _, shown in sorted(found.items())]

    def test_goes_on_where_the_attempts_before_ended(self) -> None:
        between = self.again(self.failed)
        assert not between.success
        self.clear_the_way()
        last = self.again(between)
        assert last.success
        assert self.reused(between) == [True]
        assert self.reused(last) == [True, False]

    def test_of_a_run_that_succeeded_is_of_all_of_it(self) -> None:
        self.clear_the_way()
        assert self.reused(self.again(self.again(self.failed))) == [False, False]


def start(small: SmallPipeline, *numbers: int) -> RunningJob:
    """A job that another process would have started, over these checkpoints."""
    whole = small.job_spec()
    chosen = tuple(planned for planned in whole.checkpoints if planned.number in numbers)
    return small.pipeline.compute.start(
        whole.model_copy(update={"checkpoints": chosen}), Launch(run_id="another")
    )
