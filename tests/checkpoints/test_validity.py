from __future__ import annotations

from collections.abc import Callable

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


def test_what_a_job_wrote_is_valid(lake: Lake, plan: Plan) -> None:
    state = check_checkpoint(lake, plan.checkpoints[0])
    assert state.is_valid
    assert [row.product_id for row in state.rows] == ["P000000", "P000002"]


Change = Callable[[bytes], bytes | None]
CSV, MANIFEST = places.checkpoint_csv(1), places.checkpoint_manifest(1)
OTHER_INPUT = "it holds other products, or other input, than the plan"


def without_quarantined(content: bytes) -> bytes:
    return Manifest.model_validate_json(content.replace(b"P000001", b"P000009")).sealed()


@pytest.mark.parametrize(
    ("key", "change", "validity", "reason"),
    [
        (MANIFEST, lambda _: None, Validity.MISSING, "no manifest"),
        (MANIFEST, lambda _: b'{"plan_id": ', Validity.INVALID, "the manifest cannot be read"),
        (MANIFEST, without_quarantined, Validity.INVALID, OTHER_INPUT),
        (CSV, lambda _: None, Validity.INVALID, "the manifest is there, its CSV is not"),
        (CSV, lambda content: content[:-1], Validity.INVALID, "bytes, its manifest says"),
        (CSV, lambda c: bytes([c[0] ^ 1]) + c[1:], Validity.INVALID, "the CSV's SHA-256 is not"),
        (CSV, lambda c: c[:-1] + bytes([c[-1] ^ 1]), Validity.INVALID, "the CSV's SHA-256 is not"),
    ],
)
def test_damage_is_found(
    lake: Lake, plan: Plan, key: str, change: Change, validity: Validity, reason: str
) -> None:
    changed = change(lake.get(key) or b"")
    lake.delete(key)
    if changed is not None:
        lake.put(key, changed)
    state = check_checkpoint(lake, plan.checkpoints[0])
    assert state.validity is validity
    assert reason in state.reason


def test_a_checkpoint_of_another_plan_is_invalid(lake: Lake, plan: Plan) -> None:
    other = plan_products(lake, products(3), model="model-2").plan
    for key in (places.checkpoint_csv, places.checkpoint_manifest):
        lake.put(key(2), lake.get(key(1)) or b"")
    state = check_checkpoint(lake, other.checkpoint(2))
    assert state.reason == OTHER_INPUT


def test_many_checkpoints_are_judged_in_their_order(lake: Lake) -> None:
    plan = plan_products(lake, products(70), checkpoint_size=1).plan
    complete(lake, plan, numbers=range(1, 70, 2))
    states = list(check_checkpoints(lake, plan.checkpoints))
    assert [state.planned.number for state in states] == list(range(1, 71))
    assert [state.is_valid for state in states] == [n % 2 == 1 for n in range(1, 71)]
