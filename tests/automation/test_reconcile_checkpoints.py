from __future__ import annotations

import dagster as dg
import pytest

from reviewsum_assets import lake as places
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.automation import reconcile_checkpoints as automation
from reviewsum_assets.automation.reconcile_checkpoints import reconcile_checkpoints
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
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"pipeline": self.pipeline},
            repository_def=defs.get_repository_def(),
        )
        result = reconcile_checkpoints(context)
        assert isinstance(result, dg.SkipReason)
        self.cursor = context.cursor
        return str(result.skip_message)


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
    monkeypatch.setattr(automation, "CHECKPOINTS_A_TICK", 2)
    complete(lake, plan_products(lake, products(6), checkpoint_size=2).plan)
    assert "1 still to be looked at" in tick()
    tick()
    assert set(shown(tick.instance).values()) == {"MATERIALIZED"}
