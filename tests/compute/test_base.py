from __future__ import annotations

import pytest

from reviewsum_assets.compute import Capacity
from reviewsum_assets.compute.base import job_budget
from reviewsum_assets.settings import load_settings

TWO_INSTANCES = Capacity("ml.g5.12xlarge", 2, 8, 7.2, 300.0)


def test_no_limit_makes_no_budget() -> None:
    assert job_budget(load_settings(), TWO_INSTANCES) is None


def test_money_buys_seconds_of_all_instances() -> None:
    budget = job_budget(load_settings(max_cost_usd=7.2), TWO_INSTANCES)
    assert budget is not None
    assert budget.max_seconds == pytest.approx(1800)
    assert budget.reason == "max_cost_usd 7.20 at 14.40 USD per hour"


def test_a_price_that_is_set_wins_over_the_one_the_compute_knows() -> None:
    budget = job_budget(load_settings(max_cost_usd=7.2, usd_per_hour=3.6), TWO_INSTANCES)
    assert budget is not None
    assert budget.max_seconds == pytest.approx(3600)


@pytest.mark.parametrize(("runtime", "seconds"), [(60, 60), (6000, 1800)])
def test_the_tighter_limit_counts(runtime: int, seconds: float) -> None:
    settings = load_settings(max_cost_usd=7.2, max_runtime=runtime)
    budget = job_budget(settings, TWO_INSTANCES)
    assert budget is not None
    assert budget.max_seconds == pytest.approx(seconds)


def test_a_compute_that_is_not_billed_has_no_limit_of_money() -> None:
    assert job_budget(load_settings(max_cost_usd=1), Capacity("local", 1, 2, 0.0, 4.0)) is None
