"""What a run will cost, and that it does not cost more than it may."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.compute import Capacity, JobEnd, Launch, RunningJob
from reviewsum_assets.compute.local import LocalJob
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.storage import places
from tests.support.pipeline import SmallPipeline, failure, failure_metadata


def test_a_plan_whose_estimate_cannot_be_made_still_holds(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    keys = [item.key for item in lake.list(places.MODELS)]
    (tokenizer,) = (key for key in keys if key.endswith("chunk_tokenizer.json"))
    content = lake.get(tokenizer) or b""
    lake.put(tokenizer, content.replace(b"a", b"b"))
    found = small.materializations(small.execute("ingest"))["checkpoint_plan"]
    assert "not the file that was published" in found["bill"]


def with_budget(small: SmallPipeline) -> SmallPipeline:
    """The same pipeline with a budget that no checkpoint fits into."""
    return small.with_settings(max_cost_usd=1e-9, usd_per_hour=1.0)


def test_the_bill_is_for_what_is_pending_and_a_run_within_its_budget_keeps_what_landed(
    small: SmallPipeline,
) -> None:
    found = small.materializations(small.execute("ingest"))["checkpoint_plan"]
    assert next(iter(found)) == "bill"
    assert re.match(r"6 products, 6 chunks, about \d+ seconds \(.*at no charge", found["bill"])
    assert "no checkpoint done yet on this machine" in found["bill"]
    assert (found["pending_checkpoints"], found["pending_products"]) == (3, 6)
    assert found["estimated_usd"] == 0.0
    assert "| chunks | 6 |" in found["estimate"]

    assert small.summarize(1, 1).success
    again = small.materializations(small.execute("ingest"))["checkpoint_plan"]
    assert again["pending_checkpoints"] == 2
    assert "1 checkpoint done on this machine" in again["bill"]
    run = with_budget(small).summarize(1, 3)
    message = failure(run)
    assert "2 of 3 requested checkpoints did not land (budget reached: the budget (max" in message
    assert "2 stay pending" in message
    assert failure_metadata(run)["missing"] == 2
    assert "checkpoint_00002: still pending; checkpoint_00003: still pending" in message
    assert sorted(small.materializations(run)) == ["checkpoint_00001"]
    assert small.summarize(1, 3).success


@dataclass(frozen=True)
class OneLiveJob:
    """A compute where another run's job is live, and then ends at its budget."""

    job: RunningJob
    ended: JobEnd
    capacity: Capacity
    poll_seconds: float = 0.0

    def live_jobs(self) -> list[RunningJob]:
        return [self.job]

    def links_of(self, producer: Producer) -> dict[str, str]:
        return {}

    def start(self, spec: JobSpec, launch: Launch) -> RunningJob:
        raise AssertionError("a second job would spend the budget twice")


def test_a_budget_that_a_joined_job_reached_is_not_spent_again(
    small: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = with_budget(small)
    limited.summarize(1, 3)
    job, ended = ended_job(limited.pipeline)
    compute = OneLiveJob(job, ended, small.pipeline.compute.capacity)
    monkeypatch.setitem(small.pipeline.__dict__, "compute", compute)
    assert "did not land (budget reached" in failure(small.summarize(1, 3))


def ended_job(pipeline: Pipeline) -> tuple[RunningJob, JobEnd]:
    """The one job that ran on a lake, and how it ended."""
    assert pipeline.lake.directory is not None
    (directory,) = (pipeline.lake.directory / places.PROCESSING_JOBS).iterdir()
    spec = JobSpec.model_validate_json((directory / "spec.json").read_bytes())
    job = LocalJob(pipeline.lake, directory, spec, attached=True)
    ended = job.poll()
    assert ended is not None
    return job, ended
