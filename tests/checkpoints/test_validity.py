from __future__ import annotations

import pytest

from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.checkpoints.validity import Validity, check_checkpoint, check_checkpoints
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products


@pytest.fixture
def plan(lake: Lake) -> Plan:
    """A plan of one complete checkpoint with three products, one of them quarantined."""
    plan = plan_products(lake, products(3)).plan
    complete(lake, plan, poison=["P000001"])
    return plan


def judge(lake: Lake, plan: Plan) -> tuple[Validity, str]:
    state = check_checkpoint(lake, plan.checkpoints[0])
    return state.validity, state.reason


def replace(lake: Lake, key: str, old: bytes, new: bytes) -> None:
    content = lake.get(key)
    assert content is not None
    assert old in content
    lake.put(key, content.replace(old, new, 1))


def test_what_a_job_wrote_is_valid(lake: Lake, plan: Plan) -> None:
    state = check_checkpoint(lake, plan.checkpoints[0])
    assert state.is_valid
    assert [row.product_id for row in state.rows] == ["P000000", "P000002"]


def test_a_csv_without_its_manifest_is_not_there(lake: Lake, plan: Plan) -> None:
    lake.delete(places.checkpoint_manifest(1))
    assert judge(lake, plan) == (Validity.MISSING, "no manifest")


def test_a_manifest_without_its_csv_is_invalid(lake: Lake, plan: Plan) -> None:
    lake.delete(places.checkpoint_csv(1))
    assert judge(lake, plan) == (Validity.INVALID, "the manifest is there, its CSV is not")


@pytest.mark.parametrize("position", [0, 30, -1])
def test_one_flipped_byte_of_the_csv_is_found(lake: Lake, plan: Plan, position: int) -> None:
    content = bytearray(lake.get(places.checkpoint_csv(1)) or b"")
    content[position] ^= 1
    lake.put(places.checkpoint_csv(1), bytes(content))
    assert judge(lake, plan) == (
        Validity.INVALID,
        "the CSV's SHA-256 is not the one in its manifest",
    )


def test_a_truncated_csv_is_found(lake: Lake, plan: Plan) -> None:
    content = lake.get(places.checkpoint_csv(1)) or b""
    lake.put(places.checkpoint_csv(1), content[:-1])
    validity, reason = judge(lake, plan)
    assert validity is Validity.INVALID
    assert f"{len(content) - 1} bytes" in reason


def test_a_manifest_that_does_not_parse_is_invalid(lake: Lake, plan: Plan) -> None:
    lake.put(places.checkpoint_manifest(1), b'{"plan_id": ')
    assert judge(lake, plan) == (Validity.INVALID, "the manifest cannot be read")


def test_a_manifest_that_forgets_a_quarantined_product_is_invalid(lake: Lake, plan: Plan) -> None:
    content = (lake.get(places.checkpoint_manifest(1)) or b"").replace(b"P000001", b"P000009")
    lake.put(places.checkpoint_manifest(1), Manifest.model_validate_json(content).sealed())
    assert judge(lake, plan) == (
        Validity.INVALID,
        "it holds other products, or other input, than the plan",
    )


def test_a_checkpoint_of_another_plan_is_invalid(lake: Lake, plan: Plan) -> None:
    other = plan_products(lake, products(3), model="model-2").plan
    for key in (places.checkpoint_csv, places.checkpoint_manifest):
        lake.put(key(2), lake.get(key(1)) or b"")
    state = check_checkpoint(lake, other.checkpoint(2))
    assert state.reason == "it holds other products, or other input, than the plan"


def test_many_checkpoints_are_judged_in_their_order(lake: Lake) -> None:
    plan = plan_products(lake, products(150), checkpoint_size=1).plan
    complete(lake, plan, numbers=range(1, 150, 2))
    states = list(check_checkpoints(lake, plan.checkpoints))
    assert [state.planned.number for state in states] == list(range(1, 151))
    assert [state.is_valid for state in states] == [n % 2 == 1 for n in range(1, 151)]
