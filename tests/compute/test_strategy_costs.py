from __future__ import annotations

from pathlib import Path

import pytest

from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.compute import Capacity
from reviewsum_assets.compute.estimate import chunks_per_product, estimate
from reviewsum_assets.compute.strategy_costs import compare_strategies
from reviewsum_assets.errors import PlanError
from reviewsum_assets.job.model_directory import ready_model
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews.grouping import group_reviews, scan_grouped
from reviewsum_assets.settings import load_settings
from tests.support.checkpoints import plan_products, products
from tests.support.dumps import FORMATS, reviews_of, write
from tests.support.ready_models import put_ready_model

G5 = Capacity("ml.g5.12xlarge", 1, 4, 7.2, 300.0)


def test_what_each_strategy_would_take_is_what_its_plan_is_then_estimated_at(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    reviews = [review for n in range(6) for review in reviews_of(f"B{n}", 5 + 8 * n)]
    dump = write(tmp_path / "dump", FORMATS["2018"](reviews))
    put_ready_model(lake, pegasus)
    base = {"model": str(pegasus), "dumps": (dump,), "max_chars": 200, "chunk_tokens": 100}
    settings = load_settings(**base, checkpoint_size=4, max_length=40)
    model, _ = ready_model(lake, settings)
    grouped, _ = group_reviews(lake, settings)
    scan = scan_grouped(lake, grouped)
    joined = make_plan(lake, scan, grouped.version, model.version, settings).plan
    costs = compare_strategies(lake, joined, settings, G5)
    assert costs.join.chunks == estimate(lake, joined, joined.checkpoints, settings, G5).chunks
    climbing = settings.model_copy(update={"strategy": "hierarchical"})
    plan = make_plan(lake, scan, grouped.version, model.version, climbing).plan
    planned = estimate(lake, plan, plan.checkpoints, climbing, G5)
    found = costs.hierarchical
    assert (found.chunks, found.products, found.checkpoints) == (planned.chunks, 6, 2)
    assert found.tokens_in == pytest.approx(planned.tokens_in, abs=1)
    assert found.chunks > 3 * costs.join.chunks
    assert found.usd.expected > costs.join.usd.expected > 0
    # Wherever the plan stands, the same two are compared.
    assert compare_strategies(lake, plan, settings, G5).join.chunks == costs.join.chunks
    # A budget goes by what products really hold, which only max_chars tells without counting.
    assert chunks_per_product(lake, joined, joined.checkpoints[0], settings, G5) is None
    first = chunks_per_product(lake, plan, plan.checkpoints[0], settings, G5)
    assert first is not None
    assert 4 * first < planned.chunks < 6 * first


def test_without_grouped_reviews_nothing_can_be_compared(lake: Lake) -> None:
    plan = plan_products(lake, products(1)).plan
    with pytest.raises(PlanError, match="materialize grouped_reviews"):
        compare_strategies(lake, plan, load_settings(), G5)
