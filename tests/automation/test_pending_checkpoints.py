from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets import places
from reviewsum_assets.assets.recorded_failures import RecordedFailures
from reviewsum_assets.automation import attempts
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.checkpoints.status import verify_lake
from reviewsum_assets.compute import Launch, RunningJob
from reviewsum_assets.compute.launches import note_waiting
from reviewsum_assets.dagster_home import run_tags
from reviewsum_assets.definitions import defs
from tests.support.checkpoints import complete, plan_products, products
from tests.support.partitions import range_tags
from tests.support.pipeline import SmallPipeline
from tests.support.sensors import Sensor, put_dump, put_run
from tests.support.waiting import wait_until


@contextmanager
def once_a_job_runs(small: SmallPipeline, do: Callable[[RunningJob], object]) -> Iterator[None]:
    """Let something happen, outside of any run, once the job of a run in this context runs."""

    def wait() -> None:
        (job,) = wait_until(small.pipeline.compute.live_jobs, "a job")
        wait_until(job.log_tail, "the job's first words")
        do(job)

    waiting = threading.Thread(target=wait)
    waiting.start()
    yield
    waiting.join()


START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def test_without_a_plan_nothing_is_requested(checkpoints_sensor: Sensor) -> None:
    assert "there is no plan yet" in checkpoints_sensor.skipped()


def test_one_run_computes_what_is_pending_one_merges_and_then_nothing_happens(
    planned: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    request = checkpoints_sensor.requested()
    assert (request.job_name, request.tags["reviewsum/purpose"]) == (
        "summarize",
        "pending checkpoints",
    )
    assert (request.tags[START], request.tags[END]) == ("checkpoint_00001", "checkpoint_00003")
    assert checkpoints_sensor.launch(request).success
    merge = checkpoints_sensor.requested()
    assert (merge.job_name, merge.tags["reviewsum/purpose"]) == (
        "merge",
        "merge of a finished plan",
    )
    assert checkpoints_sensor.launch(merge).success
    assert "valid and merged" in checkpoints_sensor.skipped()
    assert verify_lake(planned.pipeline.lake) == []


def test_a_tick_that_is_evaluated_twice_launches_once(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    first, second = checkpoints_sensor.requested(), checkpoints_sensor.requested()
    assert checkpoints_sensor.launch(first) is not None
    assert checkpoints_sensor.launch(second) is None


@pytest.mark.parametrize(
    ("job", "status"),
    [
        ("summarize", dg.DagsterRunStatus.QUEUED),
        ("summarize", dg.DagsterRunStatus.CANCELING),
        ("ingest", dg.DagsterRunStatus.STARTED),
    ],
)
def test_a_run_in_progress_is_waited_for(
    model_less: SmallPipeline, checkpoints_sensor: Sensor, job: str, status: dg.DagsterRunStatus
) -> None:
    run_id = put_run(model_less, job, status)
    assert checkpoints_sensor.skipped() == f"waiting for run {run_id} of {job}"


def test_partitions_that_are_materialized_on_their_page_are_waited_for(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    run = model_less.instance.create_run_for_job(
        defs.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset({dg.AssetKey("chunk_summaries")}),
        status=dg.DagsterRunStatus.STARTED,
    )
    assert checkpoints_sensor.skipped() == f"waiting for run {run.run_id} of summarize"


def test_a_job_that_was_started_elsewhere_is_waited_for_and_an_own_one_attached_to(
    planned: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    job = planned.pipeline.compute.start(planned.job_spec(), Launch(run_id="of another instance"))
    try:
        assert f"waiting for job {job.spec.name}" in checkpoints_sensor.skipped()
        waiting = f"{places.PROCESSING_JOBS}/{job.spec.name}/waiting_runs/of another instance"
        planned.pipeline.lake.delete(waiting)
        ended = put_run(planned, "summarize", dg.DagsterRunStatus.FAILURE)
        note_waiting(planned.pipeline.lake, job.spec.name, ended)
        assert checkpoints_sensor.requested().job_name == "summarize"
    finally:
        job.stop()
        job.poll()


@pytest.mark.usefixtures("no_pause")
def test_a_failure_that_stays_ends_after_three_runs_and_a_new_dump_starts_anew(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    for attempt in ("1 of 3", "2 of 3", "3 of 3"):
        request = checkpoints_sensor.requested()
        assert request.tags["reviewsum/attempt"] == attempt
        assert not checkpoints_sensor.launch(request).success
    told = checkpoints_sensor.skipped()
    assert "summarize got no further in 3 runs" in told
    assert checkpoints_sensor.launched[-1].run_id in told
    assert "is not on the lake" in told
    assert "materialize the missing partitions of chunk_summaries" in told
    put_dump(model_less.pipeline.lake, 7, "b.csv")
    assert model_less.execute("ingest").success
    assert checkpoints_sensor.requested().tags["reviewsum/attempt"] == "1 of 3"


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("deleted", [0, 1])
def test_a_run_that_somebody_deletes_does_not_end_the_attempts(
    model_less: SmallPipeline, checkpoints_sensor: Sensor, deleted: int
) -> None:
    for _ in range(2):
        checkpoints_sensor.launch(checkpoints_sensor.requested())
    model_less.instance.delete_run(checkpoints_sensor.launched[deleted].run_id)
    assert checkpoints_sensor.launch(checkpoints_sensor.requested()) is not None
    assert checkpoints_sensor.launch(checkpoints_sensor.requested()) is not None


def test_the_next_attempt_waits_and_the_one_after_it_longer(
    model_less: SmallPipeline, checkpoints_sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints_sensor.launch(checkpoints_sensor.requested())
    assert re.search(r"attempt 2 of 3 .* in (2\d\d|300) s", checkpoints_sensor.skipped())
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "FIRST_PAUSE_SECONDS", 0.0)
        checkpoints_sensor.launch(checkpoints_sensor.requested())
    assert re.search(r"attempt 3 of 3 .* in (5\d\d|600) s", checkpoints_sensor.skipped())


def test_a_run_that_landed_something_is_followed_at_once_and_counting_starts_anew(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    checkpoints_sensor.launch(checkpoints_sensor.requested())
    complete(model_less.pipeline.lake, require_plan(model_less.pipeline.lake), [1])
    request = checkpoints_sensor.requested()
    assert (request.tags[START], request.tags[END]) == ("checkpoint_00002", "checkpoint_00003")
    assert request.tags["reviewsum/attempt"] == "1 of 3"


def test_a_cancelled_run_is_left_to_people(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    request = checkpoints_sensor.requested()
    run_id = put_run(model_less, "summarize", dg.DagsterRunStatus.CANCELED, request.tags)
    complete(model_less.pipeline.lake, require_plan(model_less.pipeline.lake), [1])
    assert f"run {run_id} of summarize was cancelled" in checkpoints_sensor.skipped()


def by_hand(small: SmallPipeline, status: dg.DagsterRunStatus) -> str:
    """A run of somebody who materialized partitions on their page; its id."""
    run = small.instance.create_run_for_job(
        defs.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset({dg.AssetKey("chunk_summaries")}),
        status=status,
    )
    return run.run_id


def test_what_somebody_started_and_cancelled_is_left_to_them_until_they_go_on(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    run_id = by_hand(model_less, dg.DagsterRunStatus.CANCELED)
    told = checkpoints_sensor.skipped()
    assert f"run {run_id} of summarize was cancelled" in told
    assert "materialize the missing partitions of chunk_summaries, or call `reviewsum run`" in told
    by_hand(model_less, dg.DagsterRunStatus.SUCCESS)
    assert checkpoints_sensor.requested().job_name == "summarize"


def test_a_run_that_was_cancelled_before_the_plan_was_made_stops_nothing(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    by_hand(model_less, dg.DagsterRunStatus.CANCELED)
    plan_products(model_less.pipeline.lake, products(8), version="later", checkpoint_size=2)
    assert checkpoints_sensor.requested().job_name == "summarize"


def test_a_checkpoint_that_is_lost_after_a_run_was_cancelled_does_not_start_it_again(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    by_hand(model_less, dg.DagsterRunStatus.CANCELED)
    failures = RecordedFailures(defs.get_repository_def())
    failures.record(model_less.instance, "summarize", "a checkpoint is gone", {})
    assert "was cancelled" in checkpoints_sensor.skipped()


def test_a_budget_that_somebody_set_is_spent_once(
    planned: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    assert not planned.with_settings(max_runtime=1).summarize(1, 3).success
    assert "budget reached" in checkpoints_sensor.skipped()


def test_a_job_that_somebody_stopped_is_not_started_again(
    planned: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    with once_a_job_runs(planned, lambda job: job.request_stop()):
        assert not planned.summarize(1, 3).success
    assert "summarize ended" in checkpoints_sensor.skipped()


def test_what_ctrl_c_ended_on_the_command_line_is_not_started_again(
    planned: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    tags = {**range_tags(1, 3), **run_tags(tells_of_failure=False)}
    with once_a_job_runs(planned, lambda _: os.kill(os.getpid(), signal.SIGINT)):
        run = planned.execute("summarize", tags)
    assert f"run {run.run_id} of summarize ended: its process" in checkpoints_sensor.skipped()


def test_a_merge_that_somebody_cancelled_is_made_once_more_is_computed(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    complete(model_less.pipeline.lake, require_plan(model_less.pipeline.lake))
    run_id = put_run(model_less, "merge", dg.DagsterRunStatus.CANCELED)
    assert f"run {run_id} of merge was cancelled" in checkpoints_sensor.skipped()
    by_hand(model_less, dg.DagsterRunStatus.SUCCESS)
    assert checkpoints_sensor.requested().job_name == "merge"


def test_a_budget_is_spent_once(planned: SmallPipeline, checkpoints_sensor: Sensor) -> None:
    checkpoints_sensor.small = planned.with_settings(max_runtime=1)
    assert not checkpoints_sensor.launch(checkpoints_sensor.requested()).success
    assert "budget reached" in checkpoints_sensor.skipped()


def test_partitions_that_the_instance_lacks_are_added(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    model_less.instance.delete_dynamic_partition("checkpoints", "checkpoint_00003")
    assert checkpoints_sensor.requested().tags[END] == "checkpoint_00003"
    assert model_less.instance.has_dynamic_partition("checkpoints", "checkpoint_00003")


def test_a_checkpoint_that_was_damaged_is_computed_and_merged_again(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    lake = model_less.pipeline.lake
    plan = require_plan(lake)
    complete(lake, plan)
    checkpoints_sensor.launch(checkpoints_sensor.requested())
    assert "valid and merged" in checkpoints_sensor.skipped()
    lake.put(places.checkpoint_csv(2), b"damaged")
    request = checkpoints_sensor.requested()
    assert (request.tags[START], request.tags[END]) == ("checkpoint_00002", "checkpoint_00002")
    complete(lake, plan, [2])
    assert checkpoints_sensor.launch(checkpoints_sensor.requested()).success
    assert "valid and merged" in checkpoints_sensor.skipped()


def test_a_checkpoint_is_merged_again_whatever_time_its_host_has(
    model_less: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    lake = model_less.pipeline.lake
    plan = require_plan(lake)
    complete(lake, plan)
    assert checkpoints_sensor.launch(checkpoints_sensor.requested()).success
    assert "valid and merged" in checkpoints_sensor.skipped()
    complete(lake, plan, [2], texts=dict.fromkeys(products(6), "a better summary"))
    for key in (places.checkpoint_csv(2), places.checkpoint_manifest(2)):
        path = Path(lake.uri, key)
        os.utime(path, (path.stat().st_mtime - 5 * 3600,) * 2)
    assert checkpoints_sensor.launch(checkpoints_sensor.requested()).success
    assert b"a better summary" in (lake.get(places.MERGED_CSV) or b"")
    assert "valid and merged" in checkpoints_sensor.skipped()


def test_a_run_that_ended_in_the_future_delays_nothing(
    model_less: SmallPipeline, checkpoints_sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints_sensor.launch(checkpoints_sensor.requested())
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now - 5 * 3600)
    assert checkpoints_sensor.requested().tags["reviewsum/attempt"] == "2 of 3"
