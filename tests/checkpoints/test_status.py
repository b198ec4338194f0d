from __future__ import annotations

import pytest

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.lake_state import LakeState, LakeStatus, lake_status, verify_lake
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


def status_of(lake: Lake) -> LakeStatus:
    status = lake_status(lake)
    assert status is not None
    return status


def test_products_are_counted_where_they_are_newest(lake: Lake, plan: Plan) -> None:
    status = status_of(lake)
    assert (status.summarized, status.quarantined, status.pending) == (5, 1, 0)
    assert (status.is_merged, status.incomplete) == (True, ())
    lake.delete(places.checkpoint_manifest(1))
    status = status_of(lake)
    assert [state.planned.number for state in status.incomplete] == [1]
    assert (status.summarized, status.pending) == (3, 2)
    complete(lake, plan, [1])
    plan_products(lake, {**products(6), "P000000": "new"}, version="grouped-2")
    status = status_of(lake)
    assert (status.summarized, status.quarantined, status.pending) == (4, 1, 1)
    assert not status.is_merged


def test_a_checkpoint_computed_again_makes_the_merged_table_out_of_date(
    lake: Lake, plan: Plan
) -> None:
    complete(lake, plan, [2], texts={"P000002": "another summary"})
    status = status_of(lake)
    assert (status.is_merged, status.incomplete) == (False, ())
    merge_checkpoints(lake, plan)
    assert status_of(lake).is_merged


@pytest.mark.parametrize("key", [places.MERGED_CSV, places.MERGED_PARQUET])
def test_verify_finds_a_changed_or_missing_merged_table(lake: Lake, plan: Plan, key: str) -> None:
    assert verify_lake(lake) == []
    lake.put(key, (lake.get(key) or b"") + b"\n")
    assert verify_lake(lake) == [f"{key} is not the file that was merged: its SHA-256 differs"]
    lake.delete(key)
    assert verify_lake(lake) == [f"{key} is missing"]


def test_verify_names_what_is_bad_and_what_the_merged_table_lacks(lake: Lake, plan: Plan) -> None:
    lake.delete(places.checkpoint_manifest(1))
    lake.put(places.checkpoint_csv(2), b"")
    first, second, *_ = verify_lake(lake)
    assert first.startswith("checkpoint_00001 (missing")
    assert second.startswith("checkpoint_00002 (invalid: the CSV has 0 bytes")
    complete(lake, plan, [2])
    merge_checkpoints(lake, plan, allow_incomplete=True)
    complete(lake, plan, [1])
    (problem,) = verify_lake(lake)
    assert problem.endswith("valid now, without checkpoint_00001")
    newer = plan_products(lake, {**products(6), "new": "x"}, version="grouped-2").plan
    complete(lake, newer, [4])
    assert verify_lake(lake) == [
        f"merged_summaries was made for plan {plan.plan_id}, current is {newer.plan_id}"
    ]


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
