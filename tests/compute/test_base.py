from __future__ import annotations

from typing import Any

import pytest

from reviewsum_assets.compute import Capacity
from reviewsum_assets.compute.base import job_budget
from reviewsum_assets.settings import load_settings

TWO_INSTANCES = Capacity("ml.g5.12xlarge", 2, 8, 7.2, 300.0)
NOT_BILLED = Capacity("local", 1, 2, 0.0, 4.0)


@pytest.mark.parametrize(
    ("settings", "capacity", "seconds", "reason"),
    [
        # Money buys seconds of all instances.
        ({"max_cost_usd": 7.2}, TWO_INSTANCES, 1800, "max_cost_usd 7.20 at 14.40 USD per hour"),
        # A price that is set takes precedence over the known one.
        ({"max_cost_usd": 7.2, "usd_per_hour": 3.6}, TWO_INSTANCES, 3600, "max_cost_usd"),
        # The tighter limit counts.
        ({"max_cost_usd": 7.2, "max_runtime": 60}, TWO_INSTANCES, 60, "max_runtime"),
        ({"max_cost_usd": 7.2, "max_runtime": 6000}, TWO_INSTANCES, 1800, "max_cost_usd"),
    ],
)
def test_a_budget_is_the_tighter_of_money_and_runtime(
    settings: dict[str, Any], capacity: Capacity, seconds: float, reason: str
) -> None:
    budget = job_budget(load_settings(**settings), capacity)
    assert budget is not None
    assert budget.max_seconds == pytest.approx(seconds)
    assert budget.reason.startswith(reason)


def test_without_a_limit_or_a_price_there_is_no_budget() -> None:
    assert job_budget(load_settings(), TWO_INSTANCES) is None
    assert job_budget(load_settings(max_cost_usd=1), NOT_BILLED) is None
