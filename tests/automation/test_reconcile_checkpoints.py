from __future__ import annotations

import dagster as dg
import pytest

from reviewsum_assets import places
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.automation import reconcile_checkpoints as automation
from reviewsum_assets.automation.reconcile_checkpoints import reconcile_checkpoints
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.definitions import defs
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import load_settings
from tests.support.checkpoints import complete, plan_products, products
from tests.support.partitions import shown


class Ticks:
    """Ticks of the sensor, each with the cursor of the one before."""

    def __init__(self, instance: dg.DagsterInstance, lake: Lake) -> None:
        self.instance = instance
        self.pipeline = Pipeline(load_settings(lake=lake.uri))
        self.cursor: str | None = None

    def __call__(self) -> str:
        """One tick that must request nothing; what it tells."""
        result = self.look()
        assert isinstance(result, dg.SkipReason)
        return str(result.skip_message)

    def look(self) -> dg.SkipReason | dg.RunRequest:
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"pipeline": self.pipeline},
            repository_def=defs.get_repository_def(),
        )
        result = reconcile_checkpoints(context)
        assert isinstance(result, dg.SkipReason | dg.RunRequest)
        self.cursor = context.cursor
        return result


@pytest.fixture
def tick(instance: dg.DagsterInstance, lake: Lake) -> Ticks:
    return Ticks(instance, lake)


def test_before_the_first_plan_there_is_nothing_to_do(tick: Ticks) -> None:
    assert tick() == "there is no plan yet"


def test_a_tick_tells_what_it_changed_and_the_next_one_agrees(tick: Ticks, lake: Lake) -> None:
    plan = plan_products(lake, products(6), checkpoint_size=2).plan
    complete(lake, plan)
    assert "3 checkpoints adopted: checkpoint_00001" in tick()
    assert tick() == "Dagster and the lake agree"
    lake.delete(places.checkpoint_manifest(2))
    assert "1 checkpoints lost: checkpoint_00002 (missing: no manifest)" in tick()
    assert tick() == "Dagster and the lake agree"
    assert shown(tick.instance) == {1: "MATERIALIZED", 2: "FAILED", 3: "MATERIALIZED"}


def test_ticks_share_what_is_too_much_for_one(
    tick: Ticks, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automation, "_READING_SECONDS", 0.0)
    complete(lake, plan_products(lake, products(6), checkpoint_size=2).plan)
    assert "1 checkpoints adopted: checkpoint_00001; 2 still to be looked at" in tick()
    assert "1 checkpoints adopted: checkpoint_00002" in tick()
    assert "1 checkpoints adopted: checkpoint_00003" in tick()
    assert set(shown(tick.instance).values()) == {"MATERIALIZED"}


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
        requests.append(tick.look())
        assert tick() == "Dagster and the lake agree"
    assert [r.job_name for r in requests if isinstance(r, dg.RunRequest)] == ["merge", "merge"]
    assert len({r.run_key for r in requests if isinstance(r, dg.RunRequest)}) == 2
    merge_checkpoints(lake, plan)
    tick()
    lake.delete(places.MERGED_PARQUET)
    lake.delete(places.checkpoint_manifest(2))
    assert "merged_summaries lost" in tick()
