"""Whoever goes back to a model, settings or texts of before pays for nothing a second time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan, read_table, require_plan
from reviewsum_assets.checkpoints.planning import PlanOutcome
from reviewsum_assets.checkpoints.prune import prune
from reviewsum_assets.lake_state import lake_status, verify_lake
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products

TEXTS = products(6)
FIRST, *_, LAST = TEXTS


def planned(lake: Lake, texts: dict[str, str] = TEXTS, **options: Any) -> PlanOutcome:
    return plan_products(lake, texts, checkpoint_size=2, **options)


def finished(lake: Lake, texts: dict[str, str] = TEXTS, **options: Any) -> Plan:
    """A plan of which everything is complete and merged."""
    plan = planned(lake, texts, **options).plan
    complete(lake, plan, pending(lake))
    merge_checkpoints(lake, plan)
    return plan


def pending(lake: Lake) -> list[int]:
    status = lake_status(lake)
    assert status is not None
    return [state.planned.number for state in status.incomplete]


def holders(lake: Lake) -> dict[str, int]:
    table = read_table(lake, require_plan(lake))
    return dict(table.select("product_id", "checkpoint").iter_rows())


def test_a_model_that_was_only_planned_costs_nothing_when_it_is_given_up(any_lake: Lake) -> None:
    before = finished(any_lake)
    merged = any_lake.get(places.MERGED_CSV)
    assert planned(any_lake, model="model-2").retired == (1, 2, 3)
    back = planned(any_lake)
    assert (back.new, back.changed, back.unchanged) == (0, 0, 6)
    assert (back.added, back.retired) == ((1, 2, 3), (4, 5, 6))
    assert back.plan.checkpoints == before.checkpoints
    assert pending(any_lake) == []
    merge_checkpoints(any_lake, back.plan)
    assert any_lake.get(places.MERGED_CSV) == merged
    assert verify_lake(any_lake) == []


def test_only_what_changed_meanwhile_is_planned(lake: Lake) -> None:
    one = finished(lake)
    other = finished(lake, model="model-2")
    assert planned(lake).plan.checkpoints == one.checkpoints
    assert planned(lake, model="model-2").plan.checkpoints == other.checkpoints
    changed = {**TEXTS, FIRST: "changed meanwhile", "new": "came meanwhile"}
    back = planned(lake, changed, version="grouped-2")
    assert (back.new, back.changed, back.unchanged) == (1, 1, 5)
    assert (back.added, pending(lake)) == ((1, 2, 3, 7), [7])
    assert holders(lake)[FIRST] == holders(lake)["new"] == 7
    complete(lake, back.plan, [7])
    merge_checkpoints(lake, back.plan)
    assert verify_lake(lake) == []
    prune(lake, older_than=timedelta(0))
    again = planned(lake, {**changed, FIRST: "changed again"}, version="grouped-3")
    assert (again.changed, again.added) == (1, (8,)), "numbers of what was pruned stay used"


def test_a_text_that_goes_back_is_found_in_a_checkpoint_that_was_never_retired(lake: Lake) -> None:
    finished(lake)
    finished(lake, {**TEXTS, FIRST: "changed"}, version="grouped-2")
    back = planned(lake, version="grouped-3", top_k=3)
    assert (back.changed, back.added, back.retired) == (0, (), (3, 4))
    assert holders(lake)[FIRST] == 1
    assert pending(lake) == []


def test_a_checkpoint_in_use_is_preferred_to_a_retired_one(lake: Lake) -> None:
    finished(lake)
    csv = lake.get(places.checkpoint_csv(1))
    finished(lake, {**TEXTS, FIRST: "changed"}, version="grouped-2")
    lake.delete(places.checkpoint_csv(1))
    complete(lake, planned(lake, version="grouped-3").plan, [5])
    finished(lake, {**TEXTS, FIRST: "changed again"}, version="grouped-4")
    lake.put(places.checkpoint_csv(1), csv or b"")
    planned(lake, version="grouped-5")
    assert holders(lake)[FIRST] == 1


@pytest.mark.parametrize("place", [places.checkpoint_csv, places.checkpoint_manifest])
def test_what_is_not_valid_any_more_is_planned(lake: Lake, place: Callable[[int], str]) -> None:
    finished(lake)
    planned(lake, model="model-2")
    lake.delete(place(1))
    back = planned(lake)
    assert (back.changed, back.unchanged, back.added) == (2, 4, (2, 3, 7))


def test_two_planners_that_go_back_at_once_agree(lake: Lake) -> None:
    before = finished(lake)
    planned(lake, model="model-2")
    threads = [threading.Thread(target=planned, args=(lake,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plan = require_plan(lake)
    assert (plan.sequence, plan.checkpoints) == (3, before.checkpoints)
