from __future__ import annotations

import dagster as dg
import pytest

from reviewsum_assets.assets import reconciliation
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.automation import sensors as automation
from reviewsum_assets.automation.sensors import reconcile_checkpoints
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.definitions import defs
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products
from tests.support.partitions import shown


class Ticks:
    """Ticks of the sensor."""

    def __init__(self, instance: dg.DagsterInstance, lake: Lake) -> None:
        self.instance = instance
        self.pipeline = Pipeline(load_settings(lake=lake.uri))

    def __call__(self) -> str:
        """One tick that must request nothing; what it tells."""
        result = self.look()
        assert isinstance(result, dg.SkipReason)
        return str(result.skip_message)

    def look(self) -> dg.SkipReason | dg.RunRequest:
        context = dg.build_sensor_context(
            instance=self.instance,
            resources={"pipeline": self.pipeline},
            repository_def=defs.get_repository_def(),
        )
        result = reconcile_checkpoints(context)
        assert isinstance(result, dg.SkipReason | dg.RunRequest)
        return result


@pytest.fixture
def tick(instance: dg.DagsterInstance, lake: Lake) -> Ticks:
    return Ticks(instance, lake)


def test_a_tick_tells_what_it_changed_and_the_next_one_agrees(tick: Ticks, lake: Lake) -> None:
    assert tick() == "there is no plan yet"
    plan = plan_products(lake, products(6), checkpoint_size=2).plan
    complete(lake, plan)
    assert "3 checkpoints adopted: checkpoint_00001" in tick()
    assert tick() == "Dagster and the lake agree"
    lake.delete(places.checkpoint_manifest(2))
    assert tick() == "1 checkpoints suspected: checkpoint_00002 (missing: no manifest)"
    assert "1 checkpoints lost: checkpoint_00002 (missing: no manifest)" in tick()
    assert tick() == "Dagster and the lake agree"
    assert shown(tick.instance) == {1: "MATERIALIZED", 2: "FAILED", 3: "MATERIALIZED"}


def test_a_lost_table_is_merged_again_once_for_each_loss_and_only_where_it_can_be(
    tick: Ticks, lake: Lake
) -> None:
    plan = plan_products(lake, products(6), checkpoint_size=2).plan
    complete(lake, plan)
    requests = []
    for _ in range(2):
        merge_checkpoints(lake, plan)
        assert "merged_summaries adopted" in tick()
        lake.delete(places.MERGED_PARQUET)
        assert "merged_summaries suspected" in tick()
        requests.append(tick.look())
        assert tick() == "Dagster and the lake agree"
    assert [r.job_name for r in requests if isinstance(r, dg.RunRequest)] == ["merge", "merge"]
    assert len({r.run_key for r in requests if isinstance(r, dg.RunRequest)}) == 2
    merge_checkpoints(lake, plan)
    tick()
    lake.delete(places.MERGED_PARQUET)
    lake.delete(places.checkpoint_manifest(2))
    tick()
    assert "merged_summaries lost" in tick()


def test_a_checkpoint_and_a_table_that_another_instance_is_writing_are_not_lost(
    tick: Ticks, lake: Lake
) -> None:
    plan = plan_products(lake, products(6), checkpoint_size=2).plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    tick()
    last = {key: lake.get(key) for key in (places.checkpoint_manifest(2), places.MERGED_MANIFEST)}
    complete(lake, plan, [2], texts=dict.fromkeys(products(6), "other words, and more of them"))
    merge_checkpoints(lake, plan)
    new = {key: lake.get(key) for key in last}
    for key, content in last.items():
        lake.put(key, content or b"")
    message = tick()
    assert "checkpoints suspected: checkpoint_00002" in message
    assert "merged_summaries suspected" in message
    for key, content in new.items():
        lake.put(key, content or b"")
    assert tick() == "1 checkpoints adopted: checkpoint_00002; merged_summaries adopted"
    assert tick.instance.get_runs() == []
    assert set(shown(tick.instance).values()) == {"MATERIALIZED"}


def test_what_is_damaged_and_shown_so_keeps_no_other_loss_waiting(
    tick: Ticks, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automation, "_READING_SECONDS", 0.0)
    complete(lake, plan_products(lake, products(12), checkpoint_size=2).plan)
    assert any("agree" in tick() for _ in range(12))
    for number in range(1, 7):
        key = places.checkpoint_csv(number)
        lake.put(key, (lake.get(key) or b"").replace(b"\n", b"\r\n"))
    for _ in range(12):
        tick()
    assert set(shown(tick.instance).values()) == {"FAILED"}
    assert any("agree" in tick() for _ in range(12))
    with monkeypatch.context() as patch:
        patch.setattr(reconciliation, "check_checkpoints", None)
        assert tick() == "Dagster and the lake agree", "and it reads nothing"


def test_settings_that_cannot_work_are_the_reason_of_a_skipped_tick(
    tick: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWSUM_MIN_LENGTH", "200")
    tick.pipeline = Pipeline(load_settings)
    assert tick().startswith("failed: min_length 200 must be below max_length 128")
