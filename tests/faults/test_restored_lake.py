"""A lake restored from a backup: parts of it are older than others, or than what Dagster knows."""

from __future__ import annotations

import dagster as dg
import pytest

from reviewsum_assets.assets.partitions import align_partitions
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.reconciliation import Reconciliation, RecordedFailures, reconcile
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan, read_table, require_plan
from reviewsum_assets.definitions import defs
from reviewsum_assets.errors import PlanError
from reviewsum_assets.lake_state import lake_status, verify_lake
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products
from tests.support.partitions import shown

NEW = {**products(6), "new": "a product that came later"}
OTHER = {**products(6), "other": "a product that came in its place"}


@pytest.fixture
def plan(lake: Lake) -> Plan:
    """Six products in three checkpoints, then one more in a fourth; all complete and merged."""
    complete(lake, plan_products(lake, products(6), checkpoint_size=2).plan)
    plan = plan_products(lake, NEW, version="grouped-2", checkpoint_size=2).plan
    complete(lake, plan, [4])
    merge_checkpoints(lake, plan)
    assert verify_lake(lake) == []
    return plan


def restore_the_first_plan(lake: Lake, plan: Plan) -> None:
    """Take the second plan off the lake, as a backup from before it would."""
    document, table = places.plan_document(2), places.plan_table(plan.plan_id)
    inputs = [planned.input_key for planned in plan.checkpoints if planned.number == 4]
    for key in (document, table, *inputs):
        lake.delete(key)


def told(instance: dg.DagsterInstance, lake: Lake) -> Reconciliation:
    pipeline = Pipeline(load_settings(lake=lake.uri))
    return reconcile(
        instance, pipeline, require_plan(lake), RecordedFailures(defs.get_repository_def())
    )


def contents(lake: Lake, number: int) -> tuple[bytes | None, bytes | None]:
    return lake.get(places.checkpoint_csv(number)), lake.get(places.checkpoint_manifest(number))


def pending(lake: Lake) -> list[int]:
    status = lake_status(lake)
    assert status is not None
    return [state.planned.number for state in status.incomplete]


def test_newer_checkpoints_than_the_plan_are_found_again(lake: Lake, plan: Plan) -> None:
    restore_the_first_plan(lake, plan)
    (problem,) = verify_lake(lake)
    assert problem.startswith(f"merged_summaries was made for plan {plan.plan_id}")
    before = contents(lake, 4)
    assert plan_products(lake, NEW, version="grouped-2", checkpoint_size=2).plan == plan
    assert pending(lake) == []
    assert contents(lake, 4) == before
    assert verify_lake(lake) == []


def test_newer_checkpoints_than_the_plan_are_not_overwritten(lake: Lake, plan: Plan) -> None:
    restore_the_first_plan(lake, plan)
    before = contents(lake, 4)
    other = plan_products(lake, OTHER, version="grouped-3", checkpoint_size=2)
    assert other.added == (5,)
    complete(lake, other.plan, [5])
    assert contents(lake, 4) == before
    merge_checkpoints(lake, other.plan)
    assert verify_lake(lake) == []


def test_checkpoints_that_a_newer_plan_lacks_are_pending(lake: Lake, plan: Plan) -> None:
    lake.delete(places.checkpoint_csv(4))
    lake.delete(places.checkpoint_manifest(4))
    assert pending(lake) == [4]
    complete(lake, plan, [4])
    assert verify_lake(lake) == []


def test_a_checkpoint_that_can_never_be_computed_is_planned_again(lake: Lake, plan: Plan) -> None:
    lost, kept, damaged = (plan.checkpoint(number) for number in (2, 3, 4))
    for key in (lost.input_key, kept.input_key, *map(places.checkpoint_manifest, (2, 4))):
        lake.delete(key)
    lake.put(damaged.input_key, (lake.get(damaged.input_key) or b"")[:-1] + b"X")
    assert any("checkpoint_00004: its grouped reviews" in problem for problem in verify_lake(lake))
    outcome = plan_products(lake, NEW, version="grouped-2", checkpoint_size=2)
    # The third is complete: what it was made from is needed no more.
    assert (outcome.retired, outcome.added) == ((2, 4), (5, 6))
    complete(lake, outcome.plan, [5, 6])
    merge_checkpoints(lake, outcome.plan)
    assert verify_lake(lake) == []


def test_dagster_that_knows_more_than_the_lake_is_told_and_nothing_is_lost(
    lake: Lake, plan: Plan, instance: dg.DagsterInstance
) -> None:
    align_partitions(instance, plan)
    told(instance, lake)
    assert set(shown(instance).values()) == {"MATERIALIZED"}
    restore_the_first_plan(lake, plan)
    lake.delete(places.checkpoint_manifest(2))
    found = told(instance, lake)
    assert found.alignment.retired == ("checkpoint_00004",)
    assert [state.planned.number for state in found.lost] == [2]
    assert shown(instance) == {1: "MATERIALIZED", 2: "FAILED", 3: "MATERIALIZED"}
    again = plan_products(lake, NEW, version="grouped-2", checkpoint_size=2).plan
    complete(lake, again, [2])
    told(instance, lake)
    assert shown(instance) == dict.fromkeys((1, 2, 3, 4), "MATERIALIZED")


@pytest.mark.parametrize("what", ["document", "table"])
def test_a_damaged_plan_is_named_and_once_removed_its_checkpoints_are_found_again(
    lake: Lake, plan: Plan, what: str
) -> None:
    document, table = places.plan_document(2), places.plan_table(plan.plan_id)
    lake.put(document if what == "document" else table, b"{}")
    with pytest.raises(PlanError, match=r"plan_000002\.json.*remove the plan document") as caught:
        read_table(lake, require_plan(lake))
    assert document in str(caught.value)
    lake.delete(document)
    again = plan_products(lake, NEW, version="grouped-2", checkpoint_size=2)
    assert (again.made, again.added) == (True, (4,))
    assert pending(lake) == []
    merge_checkpoints(lake, again.plan)
    assert verify_lake(lake) == []


def test_a_damaged_first_plan_is_made_again_with_its_checkpoints(lake: Lake) -> None:
    complete(lake, plan_products(lake, products(6), checkpoint_size=2).plan)
    lake.put(places.plan_document(1), b"{}")
    with pytest.raises(PlanError):
        require_plan(lake)
    lake.delete(places.plan_document(1))
    plan_products(lake, products(6), checkpoint_size=2)
    assert pending(lake) == []
