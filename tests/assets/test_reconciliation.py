from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets.assets import reconciliation
from reviewsum_assets.assets.partitions import CHUNK_SUMMARIES, MERGED_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.reconciliation import Reconciliation, RecordedFailures, reconcile
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan, partition_key
from reviewsum_assets.definitions import defs
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products
from tests.support.partitions import events, planned_run, shown

GREEN, RED = "MATERIALIZED", "FAILED"


@dataclass
class World:
    """Six planned checkpoints on a lake, and an instance that has seen nothing."""

    instance: dg.DagsterInstance
    lake: Lake
    plan: Plan

    def complete(self, *numbers: int) -> None:
        complete(self.lake, self.plan, numbers or None)

    def agree(self, *numbers: int, merged: bool = False) -> None:
        """Complete checkpoints, or all, and let the instance know."""
        self.complete(*numbers)
        if merged:
            merge_checkpoints(self.lake, self.plan)
        self.reconcile()

    def reconcile(self, seconds: float | None = None) -> Reconciliation:
        failures = RecordedFailures(defs.get_repository_def())
        pipeline = Pipeline(load_settings(lake=self.lake.uri))
        return reconcile(self.instance, pipeline, self.plan, failures, seconds=seconds)

    def runs(self) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs())

    def merged(self) -> list[dg.AssetMaterialization | None]:
        records = self.instance.fetch_materializations(MERGED_SUMMARIES, limit=9).records
        return [record.asset_materialization for record in records]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look follows at once."""
    monkeypatch.setattr(reconciliation, "SECOND_LOOK_SECONDS", 0.0)


def world_on(instance: dg.DagsterInstance, lake: Lake) -> World:
    return World(instance, lake, plan_products(lake, products(12), checkpoint_size=2).plan)


@pytest.fixture
def world(instance: dg.DagsterInstance, lake: Lake) -> World:
    return world_on(instance, lake)


def keys(*numbers: int) -> list[str]:
    return [partition_key(number) for number in numbers]


def test_a_new_instance_adopts_what_is_valid_with_the_usual_metadata(world: World) -> None:
    world.complete(1, 2, 5)
    found = world.reconcile()
    assert found.adopted == keys(1, 2, 5)
    assert found.alignment.added == tuple(keys(1, 2, 3, 4, 5, 6))
    assert shown(world.instance) == {
        number: GREEN if number in (1, 2, 5) else "MISSING" for number in range(1, 7)
    }
    first = events(world.instance)[0]
    assert (first["adopted"], first["reused"]) == (True, True)
    assert first["products"] == "2 of 2 summarized"
    assert "| P000000 |" in first["preview"]


@pytest.mark.parametrize("end", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_what_a_job_finished_after_its_run_had_ended_is_adopted(
    world: World, end: dg.DagsterRunStatus
) -> None:
    world.reconcile()
    planned_run(world.instance, 1, 4, end)
    world.complete(1, 2, 3)
    assert world.reconcile().adopted == keys(1, 2, 3)
    states = shown(world.instance)
    assert [states[number] for number in (1, 2, 3)] == [GREEN] * 3
    assert states[4] == (RED if end is dg.DagsterRunStatus.FAILURE else "MISSING")


def test_scattered_losses_show_as_failed_with_the_reason_until_they_are_back(world: World) -> None:
    world.agree()
    lost = [places.checkpoint_manifest(2), places.checkpoint_csv(3), places.checkpoint_manifest(5)]
    content = {key: world.lake.get(key) or b"" for key in lost}
    for key in lost:
        world.lake.delete(key)
    found = world.reconcile()
    assert [state.planned.number for state in found.lost] == [2, 3, 5]
    red = dict.fromkeys((2, 3, 5), RED)
    assert shown(world.instance) == {**dict.fromkeys(range(1, 7), GREEN), **red}
    records = world.instance.fetch_observations(CHUNK_SUMMARIES, limit=9).records
    observed = [record.asset_observation for record in records if record.asset_observation]
    reasons = {one.partition: one.metadata["reason"].value for one in observed}
    assert reasons.keys() == set(keys(2, 3, 5))
    assert reasons[partition_key(3)] == "the manifest is there, its CSV is not"
    assert len(world.runs()) == 2, "one for each range"
    logs = [entry for run in world.runs() for entry in world.instance.all_logs(run.run_id)]
    (entry,) = [one for one in logs if "was executed" in one.message and "00003" in one.message]
    assert "its CSV is not" in entry.message

    before = (len(events(world.instance)), len(world.runs()))
    again = world.reconcile()
    assert again.did_nothing
    assert again.sentences() == ["Dagster and the lake agree"]
    assert (len(events(world.instance)), len(world.runs())) == before
    for key in lost:
        world.lake.put(key, content[key])
    assert world.reconcile().adopted == keys(2, 3, 5)
    assert set(shown(world.instance).values()) == {GREEN}


def test_a_damaged_checkpoint_shows_as_failed_on_any_lake(
    instance: dg.DagsterInstance, any_lake: Lake
) -> None:
    world = world_on(instance, any_lake)
    world.agree(1, 2)
    content = any_lake.get(places.checkpoint_csv(2)) or b""
    any_lake.put(places.checkpoint_csv(2), content.replace(b"summary", b"SUMMARY"))
    assert world.reconcile(60).lost == []
    found = world.reconcile(60)
    assert [state.reason for state in found.lost] == [
        "the CSV's SHA-256 is not the one in its manifest"
    ]
    assert shown(instance)[2] == RED


def test_the_run_of_a_lost_checkpoint_is_not_retried_automatically(
    lake: Lake, tmp_path: Path
) -> None:
    config = {"telemetry": {"enabled": False}, "run_retries": {"enabled": True, "max_retries": 3}}
    with dg.DagsterInstance.local_temp(str(tmp_path), config) as instance:
        world = world_on(instance, lake)
        world.complete(1)
        world.reconcile()
        lake.delete(places.checkpoint_manifest(1))
        world.reconcile()
        (run,) = world.runs()
        assert run.tags["dagster/will_retry"] == "false"


def test_what_a_run_works_on_is_left_to_it(world: World) -> None:
    world.agree()
    planned_run(world.instance, 1, 3, dg.DagsterRunStatus.STARTED)
    world.lake.delete(places.checkpoint_manifest(2))
    world.lake.delete(places.checkpoint_manifest(5))
    found = world.reconcile()
    assert [state.planned.number for state in found.lost] == [5]
    assert found.in_progress == 3
    assert shown(world.instance)[2] == "IN_PROGRESS"


def test_a_partition_of_another_lake_is_not_taken_for_this_ones(
    world: World, tmp_path: Path
) -> None:
    other = Lake.open(str(tmp_path / "other"))
    plan = plan_products(other, products(12), model="another-model", checkpoint_size=2).plan
    there = World(world.instance, other, plan)
    there.complete()
    there.reconcile()
    world.complete(1, 2)
    found = world.reconcile()
    assert found.adopted == keys(1, 2)
    assert [state.planned.number for state in found.lost] == [3, 4, 5, 6]


def test_a_retired_checkpoint_leaves_and_a_new_one_comes(world: World) -> None:
    world.agree()
    changed = {**products(12), "P000000": "All new", "P000001": "All new too"}
    world.plan = plan_products(world.lake, changed, version="grouped-2", checkpoint_size=2).plan
    found = world.reconcile()
    assert [*found.alignment.retired, *found.alignment.added] == keys(1, 7)
    assert shown(world.instance) == {**dict.fromkeys(range(2, 7), GREEN), 7: "MISSING"}


def test_the_merged_table_of_the_plan_is_adopted_once_and_no_damaged_or_older_one(
    world: World,
) -> None:
    world.complete()
    merged = merge_checkpoints(world.lake, world.plan)
    table = world.lake.get(places.MERGED_CSV) or b""
    world.lake.put(places.MERGED_CSV, table + b"more")
    assert not world.reconcile().merged.adopted
    world.lake.put(places.MERGED_CSV, table)
    assert [world.reconcile().merged.adopted for _ in range(2)] == [True, False]
    (event,) = world.merged()
    assert event is not None
    assert event.metadata["adopted"].value is True
    assert event.metadata["dagster/row_count"].value == 12
    assert (event.tags or {})["dagster/data_version"] == merged.csv_sha256
    world.plan = plan_products(world.lake, products(13), version="2", checkpoint_size=2).plan
    assert not world.reconcile().merged.adopted


@pytest.mark.parametrize(
    ("key", "seconds", "left", "reason"),
    [
        (places.MERGED_CSV, 60.0, None, "is missing"),
        (places.MERGED_CSV, 60.0, -1, "bytes, 538 were merged"),
        (places.MERGED_PARQUET, None, None, "is missing"),
        (places.MERGED_MANIFEST, 60.0, None, "has no readable record: materialize it"),
    ],
)
def test_a_merged_table_that_is_gone_or_cut_fails_once_and_is_adopted_when_it_is_back(
    world: World, key: str, seconds: float | None, left: int | None, reason: str
) -> None:
    world.agree(merged=True)
    content = world.lake.get(key) or b""
    world.lake.delete(key)
    if left is not None:
        world.lake.put(key, content[:left])
    found = world.reconcile(seconds)
    if seconds is not None:
        assert (bool(found.merged.suspected), found.merged.lost) == (True, "")
        found = world.reconcile(seconds)
    assert found.merged.lost.endswith(reason)
    (run,) = world.runs()
    assert (run.job_name, run.status) == ("merge", dg.DagsterRunStatus.FAILURE)
    assert world.reconcile(seconds).did_nothing
    world.lake.put(key, content)
    assert world.reconcile(seconds).merged.adopted
    assert len(world.merged()) == 2


def test_a_merged_table_that_a_run_writes_is_left_to_it(world: World) -> None:
    world.agree(merged=True)
    job = defs.resolve_job_def("merge")
    run = world.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    world.lake.delete(places.MERGED_CSV)
    assert world.reconcile().did_nothing
    world.instance.report_run_failed(run)
    assert world.reconcile().merged.lost


def test_what_has_not_changed_since_is_not_read_again(world: World) -> None:
    world.agree()
    # Other content under the same inode, size and time: only reading it can tell.
    path = (world.lake.directory or Path()) / places.checkpoint_csv(3)
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert world.reconcile(60).did_nothing
    assert [state.planned.number for state in world.reconcile().lost] == [3]
    assert world.reconcile(60).did_nothing


def test_what_one_call_leaves_the_next_one_looks_at(world: World) -> None:
    world.complete()
    first = world.reconcile(seconds=0)
    assert (first.adopted, first.left) == (keys(1), 5)
    assert world.reconcile(seconds=60).adopted == keys(2, 3, 4, 5, 6)


def test_one_call_records_no_more_losses_than_it_has_time_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "_LOSSES_AT_ONCE", 4)
    world.agree()
    for number in range(1, 7):
        world.lake.delete(places.checkpoint_manifest(number))
    first = world.reconcile(seconds=60)
    assert (first.lost, len(first.suspected), first.left) == ([], 4, 2)
    second = world.reconcile(seconds=60)
    assert ([state.planned.number for state in second.lost], second.left) == ([1, 2, 3, 4], 2)
    world.reconcile(seconds=60)
    assert [s.planned.number for s in world.reconcile(seconds=60).lost] == [5, 6]
    assert set(shown(world.instance).values()) == {RED}


def test_a_checkpoint_that_is_lost_again_or_replaced_is_judged_again(world: World) -> None:
    world.agree()
    for _ in range(2):
        world.lake.delete(places.checkpoint_manifest(3))
        assert world.reconcile(seconds=60).lost == [], "it is suspected first"
        assert len(world.reconcile(seconds=60).lost) == 1
        world.complete(3)
        assert world.reconcile(seconds=60).adopted == keys(3)
    complete(world.lake, world.plan, [2], texts=dict.fromkeys(products(12), "other words"))
    assert world.reconcile(seconds=60).adopted == keys(2)
    assert world.reconcile(seconds=60).did_nothing
    assert "other words" in events(world.instance)[-1]["preview"]


def test_a_second_look_by_hand_finds_what_was_being_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.agree(merged=True)
    keys = (places.checkpoint_manifest(3), places.MERGED_CSV)
    last = {key: world.lake.get(key) for key in keys}

    def write(_: float) -> None:
        for key, content in last.items():
            world.lake.put(key, content or b"")

    for key in keys:
        world.lake.delete(key)
    monkeypatch.setattr(time, "sleep", write)
    found = world.reconcile()
    assert (found.lost, found.merged.lost, world.runs()) == ([], "", [])
    assert set(shown(world.instance).values()) == {GREEN}
