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
    states = shown(world.instance)
    assert [number for number, state in states.items() if state == GREEN] == [1, 2, 5]
    assert [number for number, state in states.items() if state == "MISSING"] == [3, 4, 6]
    first = events(world.instance)[0]
    assert (first["adopted"], first["reused"], first["products"]) == (
        True,
        True,
        "2 of 2 summarized",
    )
    assert "| P000000 |" in first["preview"]


def test_a_second_call_does_nothing_and_says_so(world: World) -> None:
    world.agree(1, 2, 3)
    world.lake.delete(places.checkpoint_manifest(2))
    world.reconcile()
    before = (len(events(world.instance)), len(world.runs()))
    again = world.reconcile()
    assert again.did_nothing
    assert again.sentences() == ["Dagster and the lake agree"]
    assert (len(events(world.instance)), len(world.runs())) == before


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


def test_a_checkpoint_that_is_gone_shows_as_failed_with_the_reason(world: World) -> None:
    world.agree()
    world.lake.delete(places.checkpoint_csv(3))
    found = world.reconcile()
    assert [state.planned.number for state in found.lost] == [3]
    assert shown(world.instance) == {**dict.fromkeys(range(1, 7), GREEN), 3: RED}
    (record,) = world.instance.fetch_observations(CHUNK_SUMMARIES, limit=9).records
    assert record.asset_observation is not None
    assert record.asset_observation.partition == partition_key(3)
    reason = record.asset_observation.metadata["reason"].value
    assert reason == "the manifest is there, its CSV is not"
    (run,) = world.runs()
    (entry,) = [e for e in world.instance.all_logs(run.run_id) if "was executed" in e.message]
    assert reason in entry.message


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


def test_scattered_losses_leave_their_neighbours_alone(world: World) -> None:
    world.agree()
    for number in (2, 3, 5):
        world.lake.delete(places.checkpoint_manifest(number))
    world.reconcile()
    assert [n for n, state in shown(world.instance).items() if state == RED] == [2, 3, 5]
    assert len(world.runs()) == 2


def test_a_lost_checkpoint_that_is_back_turns_green(world: World) -> None:
    world.agree()
    manifest = world.lake.get(places.checkpoint_manifest(4)) or b""
    world.lake.delete(places.checkpoint_manifest(4))
    world.reconcile()
    world.lake.put(places.checkpoint_manifest(4), manifest)
    assert world.reconcile().adopted == keys(4)
    assert shown(world.instance)[4] == GREEN


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


def test_the_merged_table_of_the_plan_is_adopted_once(world: World) -> None:
    world.complete()
    merged = merge_checkpoints(world.lake, world.plan)
    assert world.reconcile().merged.adopted
    assert not world.reconcile().merged.adopted
    (event,) = world.merged()
    assert event is not None
    assert event.metadata["adopted"].value is True
    assert event.metadata["dagster/row_count"].value == 12
    assert (event.tags or {})["dagster/data_version"] == merged.csv_sha256


def test_a_merged_table_that_is_damaged_or_of_an_older_plan_is_not_adopted(world: World) -> None:
    world.complete()
    merge_checkpoints(world.lake, world.plan)
    table = world.lake.get(places.MERGED_CSV) or b""
    world.lake.put(places.MERGED_CSV, table + b"more")
    assert not world.reconcile().merged.adopted
    world.lake.put(places.MERGED_CSV, table)
    world.plan = plan_products(world.lake, products(13), version="2", checkpoint_size=2).plan
    assert not world.reconcile().merged.adopted
    assert world.merged() == []


@pytest.mark.parametrize(
    ("key", "seconds"),
    [(places.MERGED_CSV, 60.0), (places.MERGED_PARQUET, None), (places.MERGED_MANIFEST, 60.0)],
)
def test_a_merged_table_that_is_gone_fails_once_and_is_adopted_when_it_is_back(
    world: World, key: str, seconds: float | None
) -> None:
    world.agree(merged=True)
    content = world.lake.get(key) or b""
    world.lake.delete(key)
    found = world.reconcile(seconds)
    if seconds is not None:
        assert (bool(found.merged.suspected), found.merged.lost) == (True, "")
        found = world.reconcile(seconds)
    assert found.merged.lost == (
        "merged_summaries has no readable record: materialize it"
        if key == places.MERGED_MANIFEST
        else f"{key} is missing"
    )
    (run,) = world.runs()
    assert (run.job_name, run.status) == ("merge", dg.DagsterRunStatus.FAILURE)
    assert world.reconcile(seconds).did_nothing
    world.lake.put(key, content)
    assert world.reconcile(seconds).merged.adopted
    assert len(world.merged()) == 2


def test_a_merged_table_that_was_cut_short_fails(world: World) -> None:
    world.agree(merged=True)
    table = world.lake.get(places.MERGED_CSV) or b""
    world.lake.put(places.MERGED_CSV, table[:-1])
    world.reconcile(60)
    lost = world.reconcile(60).merged.lost
    assert lost == (f"{places.MERGED_CSV} has {len(table) - 1:,} bytes, {len(table):,} were merged")


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


def test_a_checkpoint_that_is_lost_again_is_suspected_first_again(world: World) -> None:
    world.agree()
    for _ in range(2):
        world.lake.delete(places.checkpoint_manifest(3))
        assert world.reconcile(seconds=60).lost == []
        assert len(world.reconcile(seconds=60).lost) == 1
        world.complete(3)
        assert world.reconcile(seconds=60).adopted == keys(3)


def test_what_another_instance_computed_again_is_adopted_with_its_new_files(world: World) -> None:
    world.agree()
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
