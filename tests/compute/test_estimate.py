from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.compute import Capacity, compute_for, pace
from reviewsum_assets.compute.estimate import Estimate, estimate
from reviewsum_assets.compute.pace import Work, count_chunks
from reviewsum_assets.errors import CheckpointError
from reviewsum_assets.job.models.directory import read_ready_model
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, retime
from tests.support.jobs import TEXT, run, spec_for, texts

HERE = Capacity("local", 1, 2, 0.0, 4.0)
# Four GPUs at 7.2 USD per hour.
G5 = Capacity("ml.g5.12xlarge", 1, 4, 7.2, 300.0)


def of_lengths(count: int) -> dict[str, str]:
    """Products with less and less text, as those with fewer and fewer reviews have."""
    return {f"P{n:03d}": f"{TEXT.format(n)} " * (count - n) for n in range(count)}


def estimated(lake: Lake, plan: Plan, capacity: Capacity = HERE, **settings: object) -> Estimate:
    """The estimate for a whole plan."""
    return estimate(lake, plan, plan.checkpoints, load_settings(**settings), capacity)


def manifests(lake: Lake, plan: Plan) -> list[Manifest]:
    contents = lake.get_many([places.checkpoint_manifest(c.number) for c in plan.checkpoints])
    return [Manifest.model_validate_json(content or b"") for content in contents]


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
    assert run(spec, tmp_path)[0] == 0
    done = manifests(any_lake, plan)
    assert before.chunks == sum(manifest.totals.chunks for manifest in done) > 30
    assert before.tokens_in == sum(manifest.totals.tokens_in for manifest in done)
    assert (before.checkpoints, before.products, before.products_counted) == (8, 30, 30)
    assert before.basis.endswith("chunks and tokens counted")


def test_real_checkpoints_calibrate_the_next_estimate(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    plan, spec = spec_for(lake, pegasus, texts(8))
    assert estimated(lake, plan).basis.startswith("no checkpoint done yet on this machine")
    assert run(spec, tmp_path)[0] == 0
    after = estimated(lake, plan, device="cpu")
    assert after.basis.startswith("2 checkpoints done on this machine with this model")
    done = manifests(lake, plan)
    worked = sum(manifest.worker_seconds for manifest in done)
    generated = sum(p.chunks - p.chunks_reused for manifest in done for p in manifest.products)
    # The chunks differ by a token or two, and so do times by chunks and times by tokens.
    expected = pytest.approx(after.chunks * worked / generated, rel=0.2)
    assert after.worker_seconds.expected == expected


def test_time_and_money_follow_from_calibration_workers_and_price(
    lake: Lake, pegasus: Path
) -> None:
    found = finished_on_g5(lake, pegasus, *[100.0] * 8)
    assert found.basis.startswith("8 checkpoints done on ml.g5.12xlarge")
    assert found.worker_seconds.expected == pytest.approx(800)
    # Four workers load for 9 s and take two checkpoints each; the start of 300 s is not billed.
    assert found.hours.expected == pytest.approx((300 + 9 + 200) / 3600)
    assert found.usd.expected == pytest.approx((9 + 200) * 7.2 / 3600)
    assert found.gpu_hours.expected == pytest.approx((800 + 4 * 9) / 3600)


def test_a_checkpoint_is_not_shared_among_workers(lake: Lake, pegasus: Path) -> None:
    hours = finished_on_g5(lake, pegasus, 100.0).hours
    assert hours.expected == pytest.approx((300 + 9 + 100) / 3600)


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
    assert seconds.expected > 0
    assert seconds.low == pytest.approx(seconds.expected / 2)
    assert seconds.high == pytest.approx(seconds.expected * 2)


def test_a_cpu_uses_no_gpu_hours_and_costs_only_a_price_that_is_set(
    lake: Lake, pegasus: Path
) -> None:
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
        limit = {"summary_tokens": 16, "exact_products": exact_products}
        return count_chunks(lake, plan.checkpoints, recipe, model, **limit)

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
