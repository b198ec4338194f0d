"""Records on the lake may have been written by anybody who can write there."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan, current_plan, require_plan
from reviewsum_assets.checkpoints.validity import check_checkpoint
from reviewsum_assets.errors import CheckpointError, PlanError
from reviewsum_assets.job.worker import read_input
from reviewsum_assets.lake_state import lake_status
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products
from tests.support.lake_records import replace_table, rewrite

OUTSIDE = ["../../x", "/etc/x", "a/b", "..", ".", "a\\b", "a\n", "a\0"]


@pytest.fixture
def plan(lake: Lake) -> Plan:
    """A plan of one complete checkpoint with three products."""
    plan = plan_products(lake, products(3)).plan
    complete(lake, plan)
    return plan


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(
    "place",
    [
        lambda name: lambda plan: plan.update(plan_id=name),
        lambda name: lambda plan: plan["checkpoints"][0].update(plan_id=name),
        lambda name: lambda plan: plan["recipes"][plan["recipe"]].update(model_version=name),
    ],
)
def test_a_plan_cannot_name_a_place_outside(
    lake: Lake, plan: Plan, place: Callable[[str], Callable[[Any], object]], name: str
) -> None:
    rewrite(lake, places.plan_document(1), place(name))
    with pytest.raises(PlanError, match=r"plan_000001\.json cannot be read"):
        current_plan(lake)


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.update(recipe="none"),
        lambda plan: plan.update(recipes={}),
        lambda plan: plan["checkpoints"][0].update(recipe="none"),
        lambda plan: plan["checkpoints"][0].update(number=0),
        lambda plan: plan.update(checkpoints={}),
        lambda plan: plan.pop("plan_id"),
        lambda plan: plan.update(unknown=1),
    ],
)
def test_a_plan_that_does_not_hold_together_is_refused_with_what_to_do(
    lake: Lake, plan: Plan, change: Callable[[Any], object]
) -> None:
    rewrite(lake, places.plan_document(1), change)
    with pytest.raises(PlanError, match="remove the plan document"):
        current_plan(lake)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_cannot_name_a_job_outside(lake: Lake, plan: Plan, name: str) -> None:
    rewrite(lake, places.checkpoint_manifest(1), lambda m: m["producer"].update(job_name=name))
    state = check_checkpoint(lake, plan.checkpoints[0])
    assert state.reason == "the manifest cannot be read"


def without(column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.drop(column)


DAMAGE: list[Callable[[pl.DataFrame], pl.DataFrame]] = [
    without("product_id"),
    without("input_hash"),
    lambda frame: frame.with_columns(review_count=pl.lit("many")),
    lambda frame: frame.with_columns(product_id=pl.lit(None, pl.String)),
]


def damaged(content: bytes | None, change: Callable[[pl.DataFrame], pl.DataFrame] | None) -> bytes:
    if change is None:
        return b"PAR1 and nothing else"
    buffer = io.BytesIO()
    change(pl.read_parquet(content or b"")).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        None,
        *DAMAGE,
        lambda frame: frame.with_columns(checkpoint=pl.lit(7, pl.Int64)),
        lambda frame: frame.clear(),
    ],
)
def test_a_plans_table_that_is_not_its_own_is_refused(
    lake: Lake, plan: Plan, change: Callable[[pl.DataFrame], pl.DataFrame] | None
) -> None:
    replace_table(lake, damaged(lake.get(places.plan_table(plan.plan_id)), change))
    for use in (lake_status, lambda lake: merge_checkpoints(lake, require_plan(lake))):
        with pytest.raises(PlanError, match="remove the plan document"):
            use(lake)


@pytest.mark.parametrize("change", [None, *DAMAGE, lambda frame: frame.head(2)])
def test_grouped_reviews_that_are_not_those_planned_are_refused(
    lake: Lake, plan: Plan, change: Callable[[pl.DataFrame], pl.DataFrame] | None
) -> None:
    planned = plan.checkpoints[0]
    lake.put(planned.input_key, damaged(lake.get(planned.input_key), change))
    with pytest.raises(CheckpointError, match=r"its grouped reviews .* (cannot be|are not those)"):
        read_input(lake, planned, plan.recipes[planned.recipe])
