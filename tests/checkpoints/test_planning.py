from __future__ import annotations

import io
import threading
import time

import polars as pl
import pytest

from reviewsum_assets.checkpoints.plan import (
    Plan,
    PlannedCheckpoint,
    checkpoint_number,
    current_plan,
    partition_key,
    read_table,
)
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.errors import PlanError
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products, products


def members(lake: Lake, plan: Plan, number: int) -> list[str]:
    content = lake.get(plan.checkpoint(number).input_key)
    assert content is not None
    return pl.read_parquet(io.BytesIO(content))["product_id"].to_list()


def test_the_first_plan_of_30_700_products_is_checkpoints_1_to_307(lake: Lake) -> None:
    plan = plan_products(lake, products(30_700)).plan
    assert [c.number for c in plan.checkpoints] == list(range(1, 308))
    assert {c.products for c in plan.checkpoints} == {100}


@pytest.mark.parametrize("count", [1, 99, 100, 101, 199, 200, 201, 250])
def test_no_product_is_lost_at_any_count(lake: Lake, count: int) -> None:
    plan = plan_products(lake, products(count)).plan
    planned = [p for c in plan.checkpoints for p in members(lake, plan, c.number)]
    assert sorted(planned) == sorted(products(count))


def test_the_products_with_most_reviews_come_first_and_ids_decide_among_equals(lake: Lake) -> None:
    texts = dict.fromkeys("dcba", "text")
    counts = {"a": 5, "b": 9, "c": 5, "d": 7}
    plan = plan_products(lake, texts, counts=counts, top_k=3, checkpoint_size=2).plan
    assert [members(lake, plan, number) for number in (1, 2)] == [["b", "d"], ["a"]]


def test_planning_again_changes_nothing(lake: Lake) -> None:
    first = plan_products(lake, products(250))
    second = plan_products(lake, products(250))
    assert (second.made, second.unchanged) == (False, 250)
    assert second.plan == first.plan


def test_only_what_is_new_or_changed_is_planned(lake: Lake) -> None:
    texts = products(250)
    plan_products(lake, texts)
    changed = {**texts, "P000003": "new", "P000103": "new", "P000203": "new", "X1": "x", "X2": "y"}
    outcome = plan_products(lake, changed, version="grouped-2")
    assert (outcome.new, outcome.changed, outcome.unchanged) == (2, 3, 247)
    assert str(outcome) == (
        "5 of 252 products need a summary: 2 are new, 3 changed in text, 0 in model or settings; "
        "247 are unchanged"
    )
    assert outcome.added == (4,)
    assert sorted(members(lake, outcome.plan, 4)) == ["P000003", "P000103", "P000203", "X1", "X2"]


def test_a_finished_checkpoint_keeps_its_identity(lake: Lake) -> None:
    before = plan_products(lake, products(250)).plan
    after = plan_products(lake, {**products(250), "P000003": "new"}, version="grouped-2").plan
    assert after.checkpoints[:3] == before.checkpoints


def test_a_changed_model_is_a_plan_in_which_every_product_changed(lake: Lake) -> None:
    plan_products(lake, products(250))
    outcome = plan_products(lake, products(250), model="model-2")
    assert (outcome.changed, outcome.retired, outcome.added) == (250, (1, 2, 3), (4, 5, 6))
    assert (outcome.changed_text, outcome.changed_recipe) == (0, 250)


def test_a_changed_setting_that_changes_summaries_plans_anew(lake: Lake) -> None:
    plan_products(lake, products(5))
    assert plan_products(lake, products(5), num_beams=4).changed == 5


def test_a_setting_that_changes_only_speed_plans_nothing(lake: Lake) -> None:
    plan_products(lake, products(5))
    assert not plan_products(lake, products(5), batch_tokens=999, workers=2).made


def test_a_representative_order_puts_the_complaint_into_the_window(lake: Lake) -> None:
    frame = pl.LazyFrame(
        {
            "product_id": ["a", "b"],
            "all_reviews": ["good\nfine\nnice\nbad", "good\nfine"],
            "review_count": [4, 2],
            "review_ratings": [[5.0, 5.0, None, 1.0], [4.0, 5.0]],
            "review_places": [[0, 1, 2, 3], [1, 0]],
        },
        schema_overrides={"review_ratings": pl.List(pl.Float32)},
    )
    settings = load_settings(max_chars=14, review_order="representative")
    plan = make_plan(lake, frame, "grouped-1", "model-1", settings).plan
    content = lake.get(plan.checkpoint(1).input_key) or b""
    rows = pl.read_parquet(io.BytesIO(content)).drop("input_hash", "review_count").rows()
    assert rows == [
        ("a", 3, [], [5.0, None, 1.0], "good\nnice\nbad"),
        ("b", 2, [], [5.0, 4.0], "fine\ngood"),
    ]
    again = make_plan(lake, frame, "grouped-1", "model-1", load_settings(max_chars=14))
    assert (again.changed, again.changed_recipe) == (2, 2)


def test_reviews_without_ratings_cannot_be_sampled_by_them(lake: Lake) -> None:
    with pytest.raises(PlanError, match="a grouped CSV has none"):
        plan_products(lake, products(2), review_order="representative")


def test_more_reviews_with_the_same_window_change_the_count_and_nothing_else(lake: Lake) -> None:
    plan_products(lake, {"a": "x" * 10}, counts={"a": 5}, max_chars=8)
    outcome = plan_products(
        lake, {"a": "x" * 20}, counts={"a": 9}, version="grouped-2", max_chars=8
    )
    assert (outcome.made, outcome.added, outcome.unchanged) == (True, (), 1)
    assert read_table(lake, outcome.plan)["review_count"].to_list() == [9]


def test_a_product_that_leaves_and_returns_unchanged_is_not_computed_again(lake: Lake) -> None:
    texts = products(4)
    plan_products(lake, texts, checkpoint_size=2)
    smaller = plan_products(lake, texts, checkpoint_size=2, top_k=2)
    assert smaller.retired == (2,)
    again = plan_products(lake, texts, checkpoint_size=2)
    assert (again.new, again.changed, again.added) == (0, 0, (2,))
    assert [c.number for c in again.plan.checkpoints] == [1, 2]


def test_numbers_are_never_used_twice(lake: Lake) -> None:
    plan_products(lake, products(2))
    plan_products(lake, products(2), model="model-2")
    third = plan_products(lake, products(2), model="model-3")
    assert third.added == (3,)


def test_two_planners_at_once_end_in_one_chain_without_losing_a_product(lake: Lake) -> None:
    plan_products(lake, products(10))
    outcomes = []

    def plan(name: str) -> None:
        outcomes.append(plan_products(lake, {**products(10), name: "text"}, version=name))

    threads = [threading.Thread(target=plan, args=(f"new-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.plan.sequence for outcome in outcomes) == [2, 3, 4, 5]
    plan_now = current_plan(lake)
    assert plan_now is not None
    held = read_table(lake, plan_now)["product_id"].to_list()
    assert set(held) >= {*products(10), *(f"new-{n}" for n in range(4))}
    for planned in plan_now.checkpoints:
        assert members(lake, plan_now, planned.number)


def test_a_plan_of_nothing_is_an_error_that_says_what_to_do(lake: Lake) -> None:
    with pytest.raises(PlanError, match="lower min_reviews or add a dump"):
        plan_products(lake, {})


def test_a_null_text_is_planned_like_any_other(lake: Lake) -> None:
    assert members(lake, plan_products(lake, {"a": None}).plan, 1) == ["a"]


def test_partition_keys_and_numbers_are_one_to_one() -> None:
    assert partition_key(7) == "checkpoint_00007"
    assert [checkpoint_number(partition_key(n)) for n in (1, 99_999, 123_456)] == [
        1,
        99_999,
        123_456,
    ]
    with pytest.raises(PlanError, match="'chunk_7' is not a checkpoint"):
        checkpoint_number("chunk_7")


def test_a_checkpoint_outside_the_plan_is_named(lake: Lake) -> None:
    plan = plan_products(lake, products(1)).plan
    with pytest.raises(PlanError, match="checkpoint_00002 is not in the current plan"):
        plan.checkpoint(2)


def test_choosing_all_of_20_000_checkpoints_takes_no_time(lake: Lake) -> None:
    checkpoints = tuple(
        PlannedCheckpoint(
            number=n, products=1, data_version="", recipe="", plan_id="p", input_sha256=""
        )
        for n in range(1, 20_001)
    )
    plan = plan_products(lake, products(1)).plan.model_copy(update={"checkpoints": checkpoints})
    started = time.process_time()
    assert plan.chosen(range(20_000, 0, -1)) == list(reversed(checkpoints))
    assert time.process_time() - started < 1
