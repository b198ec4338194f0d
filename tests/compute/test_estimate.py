from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.compute import Capacity, compute_for, pace
from reviewsum_assets.compute.base import job_budget
from reviewsum_assets.compute.estimate import Estimate, estimate
from reviewsum_assets.compute.pace import Pace, Work, Workplace, count_chunks, measured_pace
from reviewsum_assets.errors import CheckpointError
from reviewsum_assets.job.models.directory import read_ready_model
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products, retime
from tests.support.jobs import TEXT, run, spec_for, texts

HERE = Capacity("local", 1, 2, 0.0, 4.0)
# Four GPUs at 7.2 USD per hour.
G5 = Capacity("ml.g5.12xlarge", 1, 4, 7.2, 300.0)
TWO_G5 = replace(G5, instances=2, workers=8)
# Where tests.support.checkpoints.PRODUCER worked.
WORKPLACE = Workplace("local", "cpu", "test", "float32", "model-1")


def of_lengths(count: int) -> dict[str, str]:
    """Products with less and less text, as those with fewer and fewer reviews have."""
    return {f"P{n:03d}": f"{TEXT.format(n)} " * (count - n) for n in range(count)}


def estimated(lake: Lake, plan: Plan, capacity: Capacity = HERE, **settings: object) -> Estimate:
    """The estimate for a whole plan."""
    return estimate(lake, plan, plan.checkpoints, load_settings(**settings), capacity)


def planned(lake: Lake, model: Path, checkpoints: int) -> Plan:
    """A plan whose checkpoints of four products hold one chunk per product."""
    return spec_for(lake, model, texts(4 * checkpoints))[0]


def finished_on_g5(lake: Lake, model: Path, *seconds: float) -> Estimate:
    """The estimate of a plan whose checkpoints were computed there, in so many seconds each."""
    plan = planned(lake, model, len(seconds))
    complete(lake, plan)
    made_by: dict[str, Any] = {
        "instance_type": G5.instance_type,
        "device": "cuda (NVIDIA A10G)",
        "engine": "ctranslate2",
        "dtype": "bfloat16",
        "model_version": plan.recipes[plan.recipe].model_version,
    }
    for number, each in enumerate(seconds, 1):
        retime(lake, number, seconds=each, **made_by)
    return estimated(lake, plan, G5)


def test_chunks_and_tokens_are_those_the_job_then_makes(
    any_lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    plan, spec = spec_for(any_lake, pegasus, of_lengths(30))
    before = estimated(any_lake, plan)
    assert before.basis.startswith("no checkpoint done yet on this machine")
    assert run(spec, tmp_path)[0] == 0
    contents = any_lake.get_many([places.checkpoint_manifest(c.number) for c in plan.checkpoints])
    done = [Manifest.model_validate_json(content or b"") for content in contents]
    assert before.chunks == sum(manifest.totals.chunks for manifest in done) > 30
    assert before.tokens_in == sum(manifest.totals.tokens_in for manifest in done)
    assert (before.checkpoints, before.products, before.products_counted) == (8, 30, 30)
    assert before.basis.endswith("chunks and tokens counted")
    # They calibrate the next estimate.
    after = estimated(any_lake, plan, device="cpu")
    assert after.basis.startswith("8 checkpoints done on this machine with this model")
    worked = sum(manifest.worker_seconds for manifest in done)
    fresh = sum(manifest.totals.chunks - manifest.totals.chunks_reused for manifest in done)
    assert after.worker_seconds.expected == pytest.approx(after.chunks * worked / fresh)


def test_time_and_money_follow_from_calibration_workers_and_price(
    lake: Lake, pegasus: Path
) -> None:
    # A checkpoint is not shared among workers.
    hours = finished_on_g5(lake, pegasus, 100.0).hours
    assert hours.expected == pytest.approx((300 + 9 + 100) / 3600)
    found = finished_on_g5(lake, pegasus, *[100.0] * 8)
    assert found.basis.startswith("8 checkpoints done on ml.g5.12xlarge")
    assert found.worker_seconds.expected == pytest.approx(800)
    # Four workers load for 9 s and take two checkpoints each; the start of 300 s is not billed.
    assert found.hours.expected == pytest.approx((300 + 9 + 200) / 3600)
    assert found.usd.expected == pytest.approx((9 + 200) * 7.2 / 3600)
    assert found.gpu_hours.expected == pytest.approx((800 + 4 * 9) / 3600)


@pytest.mark.parametrize(
    ("seconds", "uncertainty"),
    [
        ([100.0] * 4, 0.2),  # at least a fifth
        # Standard deviation 57.7 of 100; two standard errors of the mean of four are 57.7 too.
        ([50.0, 150.0] * 2, 0.577),
    ],
)
def test_the_range_is_two_standard_errors_of_the_pace_and_at_least_a_fifth(
    lake: Lake, pegasus: Path, seconds: list[float], uncertainty: float
) -> None:
    found = finished_on_g5(lake, pegasus, *seconds).worker_seconds
    assert found.low == pytest.approx(400 * (1 - uncertainty), rel=0.01)
    assert found.high == pytest.approx(400 * (1 + uncertainty), rel=0.01)


def test_without_a_calibration_the_range_is_from_half_to_twice(lake: Lake, pegasus: Path) -> None:
    found = estimated(lake, planned(lake, pegasus, checkpoints=2), G5)
    assert "no checkpoint done yet on ml.g5.12xlarge" in found.basis
    seconds = found.worker_seconds
    assert seconds.low == pytest.approx(seconds.expected / 2)
    assert seconds.high == pytest.approx(seconds.expected * 2)
    # A CPU uses no hours of GPUs, and costs only a price that is set.
    plan = planned(lake, pegasus, checkpoints=2)
    found = estimated(lake, plan, device="cpu")
    assert found.hours.expected > 0
    assert (found.gpu_hours.high, found.usd.high) == (0.0, 0.0)
    assert estimated(lake, plan, usd_per_hour=1.0).usd.expected > 0


def test_of_many_products_an_even_sample_is_scaled_up(
    lake: Lake, pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_SAMPLED_CHECKPOINTS", 10)
    plan, _ = spec_for(lake, pegasus, of_lengths(80))
    recipe = plan.recipes[plan.recipe]
    model = read_ready_model(lake, recipe.model_version)

    def count(exact_products: int) -> tuple[list[Work], int]:
        monkeypatch.setitem(pace._EXACT_PRODUCTS, "join", exact_products)
        return count_chunks(lake, plan.checkpoints, recipe, model, summary_tokens=16)

    (exact, all_counted), (sample, counted) = count(80), count(20)
    assert (all_counted, counted) == (80, 20)
    assert len(sample) == len(exact) == 20
    assert Work.total(sample) == pytest.approx(Work.total(exact), rel=0.1)


def test_nothing_pending_or_planned_costs_nothing(lake: Lake) -> None:
    plan = plan_products(lake, texts(4)).plan
    for some, basis in ((None, "there is no plan yet"), (plan, "nothing is pending")):
        found = estimate(lake, some, [], load_settings(), G5)
        assert found.basis == basis
        assert (found.checkpoints, found.chunks, found.hours.high, found.usd.high) == (0, 0, 0, 0)


def test_grouped_reviews_that_are_gone_are_named(lake: Lake, pegasus: Path) -> None:
    plan = planned(lake, pegasus, checkpoints=1)
    lake.delete(plan.checkpoint(1).input_key)
    with pytest.raises(CheckpointError, match=r"checkpoint_1\.parquet are missing"):
        estimated(lake, plan)


def test_this_machines_capacity_is_the_workers_a_job_would_start(lake: Lake, pegasus: Path) -> None:
    settings = load_settings(device="cpu", workers=3)
    assert compute_for(settings, lake).capacity.workers == 3  # there is no plan yet
    planned(lake, pegasus, checkpoints=1)
    found = compute_for(settings, lake).capacity
    assert (found.instance_type, found.instances, found.workers) == ("local", 1, 3)
    assert found.usd_per_hour == 0


def measured(lake: Lake, *seconds: float, **changes: Any) -> Pace | None:
    """The pace of checkpoints of four products, a chunk each, which took so many seconds."""
    plan = plan_products(lake, products(4 * len(seconds)), checkpoint_size=4).plan
    complete(lake, plan)
    for number, each in enumerate(seconds, 1):
        retime(lake, number, seconds=each)
    if changes:
        retime(lake, len(seconds), **changes)
    return measured_pace(lake, WORKPLACE)


@pytest.mark.parametrize(
    ("seconds", "changes", "per_chunk", "highest"),
    [
        ([4.0, 4.0], {}, 1.0, 1.2),
        ([2.0, 4.0, 6.0], {}, 1.0, 1 + 1 / 3**0.5),  # the standard deviation is half of the mean
        ([3.0], {"seconds": 3.0, "reused": 1}, 1.0, 1.2),  # a reused summary is no work
    ],
)
def test_the_pace_is_in_seconds_of_a_worker_for_a_chunk(
    lake: Lake, seconds: list[float], changes: dict[str, Any], per_chunk: float, highest: float
) -> None:
    found = measured(lake, *seconds, **changes)
    assert found is not None
    assert found.basis.startswith(f"{len(seconds)} checkpoint")
    assert (found.load_seconds, found.tokens_out_per_chunk) == (9.0, 5.0)
    assert found.seconds_per_chunk == pytest.approx(per_chunk)
    assert found.range[1] == pytest.approx(highest)


def test_checkpoints_of_another_workplace_or_of_reused_chunks_only_say_nothing(lake: Lake) -> None:
    assert measured_pace(lake, WORKPLACE) is None
    assert measured(lake, 4.0) is not None
    others = {"instance_type": "ml.g5.12xlarge", "device": "cuda", "engine": "another"}
    for name, value in {**others, "dtype": "bfloat16", "model_version": "model-2"}.items():
        assert measured_pace(lake, replace(WORKPLACE, **{name: value})) is None
    retime(lake, 1, seconds=1.0, reused=4)
    assert measured_pace(lake, WORKPLACE) is None


def test_the_readable_manifests_with_the_highest_numbers_and_one_dtype_count(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_NEWEST_MANIFESTS", 3)
    measured(lake, *[400.0] * 9, 4.0, 8.0, 4.0)
    lake.put(places.checkpoint_manifest(12), b"{")
    retime(lake, 11, seconds=8.0, dtype="bfloat16")
    found = measured_pace(lake, replace(WORKPLACE, dtype="auto"))
    assert found is not None and found.seconds_per_chunk == 2.0
    found = measured_pace(lake, WORKPLACE)
    assert found is not None and found.seconds_per_chunk == 1.0


@pytest.mark.parametrize(
    ("settings", "seconds", "reason"),
    [
        # Money buys seconds of all instances.
        ({"max_cost_usd": 7.2}, 1800, "max_cost_usd 7.20 at 14.40 USD per hour"),
        # A price that is set takes precedence over the known one.
        ({"max_cost_usd": 7.2, "usd_per_hour": 3.6}, 3600, "max_cost_usd"),
        # The tighter limit counts.
        ({"max_cost_usd": 7.2, "max_runtime": 60}, 60, "max_runtime"),
        ({"max_cost_usd": 7.2, "max_runtime": 6000}, 1800, "max_cost_usd"),
    ],
)
def test_a_budget_is_the_tighter_of_money_and_runtime(
    settings: dict[str, Any], seconds: float, reason: str
) -> None:
    budget = job_budget(load_settings(**settings), TWO_G5)
    assert budget is not None
    assert budget.max_seconds == pytest.approx(seconds)
    assert budget.reason.startswith(reason)
    assert job_budget(load_settings(), TWO_G5) is None
    assert job_budget(load_settings(max_cost_usd=1), HERE) is None
