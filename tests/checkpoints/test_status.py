from __future__ import annotations

import pytest

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.errors import PlanError
from reviewsum_assets.lake_state import LakeState, lake_status, verify_lake
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products


@pytest.fixture
def plan(lake: Lake) -> Plan:
    """A merged plan of three checkpoints with two products each, one product quarantined."""
    plan = plan_products(lake, products(6), checkpoint_size=2).plan
    complete(lake, plan, poison=["P000003"])
    merge_checkpoints(lake, plan)
    return plan


def test_a_lake_without_a_plan_has_no_status(lake: Lake) -> None:
    assert lake_status(lake) is None


def test_a_complete_lake_says_so(lake: Lake, plan: Plan) -> None:
    status = lake_status(lake)
    assert status is not None
    assert (status.summarized, status.quarantined, status.pending) == (5, 1, 0)
    assert status.is_merged
    assert status.incomplete == ()


def test_what_is_missing_is_pending(lake: Lake, plan: Plan) -> None:
    lake.delete(places.checkpoint_manifest(1))
    status = lake_status(lake)
    assert status is not None
    assert [state.describe() for state in status.incomplete] == [
        "checkpoint_00001 (missing: no manifest)"
    ]
    assert (status.summarized, status.pending) == (3, 2)


def test_a_product_that_moved_on_counts_where_it_is_newest(lake: Lake, plan: Plan) -> None:
    plan_products(lake, {**products(6), "P000000": "new"}, version="grouped-2")
    status = lake_status(lake)
    assert status is not None
    assert (status.summarized, status.quarantined, status.pending) == (4, 1, 1)
    assert not status.is_merged


def test_a_checkpoint_computed_again_makes_the_merged_table_out_of_date(
    lake: Lake, plan: Plan
) -> None:
    complete(lake, plan, [2], texts={"P000002": "another summary"})
    status = lake_status(lake)
    assert status is not None
    assert (status.is_merged, status.incomplete) == (False, ())
    merge_checkpoints(lake, plan)
    status = lake_status(lake)
    assert status is not None and status.is_merged


def test_retired_checkpoints_are_named(lake: Lake, plan: Plan) -> None:
    plan_products(lake, products(6), checkpoint_size=2, model="model-2")
    status = lake_status(lake)
    assert status is not None
    assert [planned.number for planned in status.plan.retired] == [1, 2, 3]


def test_verify_finds_nothing_on_a_complete_lake(lake: Lake, plan: Plan) -> None:
    assert verify_lake(lake) == []


def test_verify_without_a_plan_says_so(lake: Lake) -> None:
    with pytest.raises(PlanError, match="holds no plan yet"):
        verify_lake(lake)


@pytest.mark.parametrize("key", [places.MERGED_CSV, places.MERGED_PARQUET])
def test_verify_finds_a_changed_merged_table(lake: Lake, plan: Plan, key: str) -> None:
    lake.put(key, (lake.get(key) or b"") + b"\n")
    assert verify_lake(lake) == [f"{key} is not the file that was merged: its SHA-256 differs"]


@pytest.mark.parametrize("key", [places.MERGED_CSV, places.MERGED_PARQUET])
def test_verify_finds_a_missing_merged_table(lake: Lake, plan: Plan, key: str) -> None:
    lake.delete(key)
    assert verify_lake(lake) == [f"{key} is missing"]


def test_verify_finds_a_merge_of_an_older_plan(lake: Lake, plan: Plan) -> None:
    newer = plan_products(lake, {**products(6), "new": "x"}, version="grouped-2").plan
    complete(lake, newer, numbers=[4])
    assert verify_lake(lake) == [
        f"merged_summaries was made for plan {plan.plan_id}, current is {newer.plan_id}"
    ]


def test_verify_names_a_bad_checkpoint(lake: Lake, plan: Plan) -> None:
    lake.put(places.checkpoint_csv(2), b"")
    problems = verify_lake(lake)
    assert problems[0].startswith("checkpoint_00002 (invalid: the CSV has 0 bytes")


def test_verify_names_products_that_an_incomplete_merge_lacks(lake: Lake, plan: Plan) -> None:
    lake.delete(places.checkpoint_manifest(1))
    merge_checkpoints(lake, plan, allow_incomplete=True)
    complete(lake, plan, numbers=[1])
    assert verify_lake(lake) == ["merged_summaries lacks products: P000000, P000001"]


def test_what_has_not_changed_is_read_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_products(lake, products(6), checkpoint_size=2).plan
    complete(lake, plan, [1, 2])
    read: list[str] = []
    get = Lake.get

    def noted(self: Lake, key: str) -> bytes | None:
        read.append(key)
        return get(self, key)

    monkeypatch.setattr(Lake, "get", noted)
    state = LakeState(lake)
    assert [one.is_valid for one in state.checkpoints(plan)] == [True, True, False]
    read.clear()
    state.checkpoints(plan)
    assert read == [places.checkpoint_manifest(3)]
    complete(lake, plan, [2, 3], texts={"P000002": "another summary"})
    read.clear()
    status = state.status_of(plan)
    manifests = [key for key in read if key.startswith(places.CHECKPOINT_MANIFESTS)]
    assert manifests == [places.checkpoint_manifest(2), places.checkpoint_manifest(3)]
    assert (status.summarized, status.quarantined, status.pending, status.chunks) == (6, 0, 0, 6)
