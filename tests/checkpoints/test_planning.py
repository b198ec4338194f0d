from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from reviewsum_assets.checkpoints.manifest import decode_rows
from reviewsum_assets.checkpoints.plan import (
    Plan,
    Vanished,
    checkpoint_number,
    current_plan,
    partition_key,
    read_table,
    require_plan,
)
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.errors import PlanError
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, grouped, plan_products, products
from tests.support.dumps import FORMATS, reviews_of, write
from tests.support.pipeline import SmallPipeline, failure


def members(lake: Lake, plan: Plan, number: int) -> list[str]:
    content = lake.get(plan.checkpoint(number).input_key)
    assert content is not None
    return pl.read_parquet(io.BytesIO(content))["product_id"].to_list()


def test_the_first_plan_of_30_700_products_is_checkpoints_1_to_307(lake: Lake) -> None:
    plan = plan_products(lake, products(30_700)).plan
    assert [c.number for c in plan.checkpoints] == list(range(1, 308))
    assert {c.products for c in plan.checkpoints} == {100}


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_no_product_is_lost_at_any_count(lake: Lake, count: int) -> None:
    texts = {**products(count - 1), "without a text": None}
    plan = plan_products(lake, texts).plan
    planned = [p for c in plan.checkpoints for p in members(lake, plan, c.number)]
    assert sorted(planned) == sorted(texts)


def test_the_products_with_most_reviews_come_first_and_ids_decide_among_equals(lake: Lake) -> None:
    texts = dict.fromkeys("dcba", "text")
    counts = {"a": 5, "b": 9, "c": 5, "d": 7}
    plan = plan_products(lake, texts, counts=counts, top_k=3, checkpoint_size=2).plan
    assert [members(lake, plan, number) for number in (1, 2)] == [["b", "d"], ["a"]]


def test_only_what_is_new_or_changed_is_planned(lake: Lake) -> None:
    texts = products(250)
    before = plan_products(lake, texts).plan
    again = plan_products(lake, texts, batch_tokens=999, workers=2)  # changes only speed
    assert (again.made, again.unchanged, again.plan) == (False, 250, before)
    changed = {**texts, "P000003": "new", "P000103": "new", "P000203": "new", "X1": "x", "X2": "y"}
    outcome = plan_products(lake, changed, version="grouped-2")
    assert (outcome.new, outcome.changed, outcome.unchanged) == (2, 3, 247)
    assert str(outcome).startswith("5 of 252 products need a summary: 2 are new, 3 changed in text")
    assert outcome.added == (4,)
    assert outcome.plan.checkpoints[:3] == before.checkpoints
    assert sorted(members(lake, outcome.plan, 4)) == ["P000003", "P000103", "P000203", "X1", "X2"]


def test_with_another_model_or_setting_every_product_changed(lake: Lake) -> None:
    plan_products(lake, products(250))
    outcome = plan_products(lake, products(250), model="model-2")
    assert (outcome.changed, outcome.retired, outcome.added) == (250, (1, 2, 3), (4, 5, 6))
    assert (outcome.changed_text, outcome.changed_recipe) == (0, 250)
    third = plan_products(lake, products(250), num_beams=4)
    assert (third.changed, third.added) == (250, (7, 8, 9)), "no number is used twice"


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


def test_a_review_that_changes_its_side_plans_its_product_again(lake: Lake) -> None:
    texts = {"a": "good\nodd\nbad", "b": "good\nbad", "unrated": "some"}
    stars: dict[str, list[float | None]] = {"a": [5, 4, 1], "b": [5, 1], "unrated": [None]}
    settings: dict[str, Any] = {"strategy": "two_sided", "checkpoint_size": 3}
    plan = plan_products(lake, texts, stars=stars, **settings).plan
    content = lake.get(plan.checkpoint(1).input_key) or b""
    rows = pl.read_parquet(io.BytesIO(content)).drop("input_hash", "review_count").rows()
    assert rows == [
        ("a", 3, [], [5.0, 4.0, 1.0], "good\nodd\n\nbad"),
        ("b", 2, [], [5.0, 1.0], "good\n\nbad"),
        ("unrated", 0, [], [], ""),
    ]
    stars["a"][1] = 3
    again = plan_products(lake, texts, stars=stars, version="grouped-2", **settings)
    assert (again.changed, again.unchanged) == (1, 2)


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


def test_partition_keys_and_numbers_are_one_to_one(lake: Lake) -> None:
    numbers = [7, 99_999, 123_456]
    assert partition_key(7) == "checkpoint_00007"
    assert [checkpoint_number(partition_key(number)) for number in numbers] == numbers
    with pytest.raises(PlanError, match="'chunk_7' is not a checkpoint"):
        checkpoint_number("chunk_7")
    with pytest.raises(PlanError, match="checkpoint_00002 is not in the current plan"):
        plan_products(lake, products(1)).plan.checkpoint(2)


def test_a_plan_that_cannot_be_made_says_what_to_do(lake: Lake) -> None:
    with pytest.raises(PlanError, match="lower min_reviews or add a dump"):
        plan_products(lake, {})
    for order in ("representative", "consensus"):
        with pytest.raises(
            PlanError, match=f"{order} ranks.* a grouped CSV has one text.* to helpful"
        ):
            plan_products(lake, products(2), review_order=order)
    with pytest.raises(PlanError, match="divides reviews by their stars"):
        plan_products(lake, products(2), strategy="two_sided")


def test_what_is_gone_is_counted_by_cause(lake: Lake) -> None:
    plan_products(lake, products(10), top_k=10)
    left = {name: text for name, text in products(10).items() if name not in ("P000003", "P000004")}
    settings = load_settings(top_k=5, max_vanished_share=1)
    too_few = pl.LazyFrame({"product_id": ["P000004", "of old"]})
    outcome = make_plan(lake, grouped(left), "grouped-2", "model-1", settings, too_few=too_few)
    assert outcome.vanished == Vanished(absent=1, too_few=1, below_top_k=3, before=10)
    assert str(outcome.vanished).startswith("5 of 10 products are gone: 1 are in no dump any more")


@pytest.mark.parametrize(("share", "is_made"), [(0.2, True), (0.19, False)])
def test_the_share_that_may_vanish_decides(lake: Lake, share: float, is_made: bool) -> None:
    first = plan_products(lake, products(10)).plan
    left = dict(list(products(10).items())[2:])
    if is_made:
        assert plan_products(lake, left, version="grouped-2", max_vanished_share=share).made
    else:
        with pytest.raises(PlanError, match=r"2 of 10 products are gone: 2 are in no dump"):
            plan_products(lake, left, version="grouped-2", max_vanished_share=share)
        assert current_plan(lake) == first
    others = {f"other {name}": text for name, text in products(10).items()}
    with pytest.raises(PlanError, match=r"of (8|10) products are gone"):
        plan_products(lake, others, version="grouped-3", max_vanished_share=share)


def test_a_cut_off_dump_leaves_the_table_until_the_loss_is_confirmed(
    lake: Lake, pegasus: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    dump = tmp_path / "dump.jsonl"
    many = [review for n in range(6) for review in reviews_of(f"P{n}")]
    write(dump, FORMATS["2018"](many))
    small = SmallPipeline.build(instance, lake, pegasus, dump, max_vanished_share=0.05)
    assert small.execute("ingest").success
    complete(lake, require_plan(lake))
    assert small.execute("merge").success
    before = lake.get(places.MERGED_CSV)
    assert len(decode_rows(before or b"")) == 6

    few = [*reviews_of("P0"), *reviews_of("P1"), *reviews_of("P2", 4)]
    write(dump, FORMATS["2018"](few))
    run = small.execute("ingest")
    assert "4 of 6 products are gone: 3 are in no dump any more, 1 have too few" in failure(run)
    assert "--max-vanished-share 1" in failure(run)
    assert lake.get(places.MERGED_CSV) == before

    assert small.with_settings(max_vanished_share=1).execute("ingest").success
    assert small.execute("merge").success
    assert len(decode_rows(lake.get(places.MERGED_CSV) or b"")) == 2
