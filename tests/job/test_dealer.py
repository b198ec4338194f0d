from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.job import dealer
from reviewsum_assets.job.dealer import BudgetKeeper, Dealer
from reviewsum_assets.job.parent import run_job
from reviewsum_assets.job.progress import JobResult, ProgressReporter
from reviewsum_assets.job.spec import Budget, JobSpec, job_spec
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products, products
from tests.support.jobs import incomplete, result, run, spec_for, texts

BUDGET = Budget(max_seconds=100, reason="max_runtime 100 s")


@dataclass
class Clock:
    """Stands still until so many checkpoints have landed; the budget is used up then."""

    lake: Lake
    landed: int

    def __call__(self) -> float:
        done = len(self.lake.list(places.CHECKPOINT_MANIFESTS)) >= self.landed
        return 1000.0 if done else 0.0


def run_until(lake: Lake, spec: JobSpec, landed: int) -> JobResult:
    """Run a job, with real workers, whose budget ends once so many checkpoints have landed."""
    limited = spec.model_copy(update={"budget": BUDGET})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dealer, "monotonic", Clock(lake, landed))
        return run_job(lake, limited, ProgressReporter(lake, limited), lambda: False, "local")


def test_a_job_ends_at_a_checkpoint_boundary_and_the_next_one_computes_the_rest(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    _, spec = spec_for(lake, pegasus, texts(48), workers=2, batch_size=4)
    ended = run_until(lake, spec, landed=2)
    assert (ended.exit_code, ended.stopped) == (0, False)
    # Leases of one checkpoint that are read, generated or written land too.
    assert 2 <= len(ended.landed) <= 2 + 3 * 2
    assert incomplete(lake) == sorted({*range(1, 13)} - {*ended.landed})
    assert ended.budget_reached.startswith("the budget (max_runtime 100 s) left no room")
    left = 12 - len(ended.landed)
    assert f"1,000 s: {len(ended.landed)} landed and are kept, {left} stay" in ended.budget_reached
    before = {n: lake.get(places.checkpoint_manifest(n)) for n in ended.landed}
    assert run(spec, tmp_path)[0] == 0
    assert incomplete(lake) == []
    assert {n: lake.get(places.checkpoint_manifest(n)) for n in before} == before


def test_a_job_whose_first_lease_would_not_fit_starts_none_and_says_so(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    _, spec = spec_for(lake, pegasus, texts(8))
    slow = spec.model_copy(update={"budget": BUDGET, "seconds_per_chunk": 1e6})
    code, log = run(slow, tmp_path)
    assert code == 0, log
    assert "0 landed and are kept, 2 stay pending" in result(lake, slow).budget_reached
    assert result(lake, slow).budget_reached in log
    assert incomplete(lake) == [1, 2]
    # One within its budget does not mention it, and records the prediction.
    budget = Budget(max_seconds=1e6, reason="max_runtime")
    roomy = spec.model_copy(update={"budget": budget, "seconds_per_chunk": 2.5})
    assert run(roomy, tmp_path)[0] == 0
    assert result(lake, roomy).budget_reached == ""
    content = lake.get(places.checkpoint_manifest(1)) or b""
    assert Manifest.model_validate_json(content).predicted_seconds == 4 * 2.5


def test_a_checkpoint_that_fails_within_the_budget_still_fails_the_job(
    lake: Lake, pegasus: Path
) -> None:
    plan, spec = spec_for(lake, pegasus, texts(48), workers=1, batch_size=4)
    lake.delete(plan.checkpoint(1).input_key)
    ended = run_until(lake, spec, landed=2)
    assert (ended.exit_code, list(ended.failed)) == (3, [1])
    assert ended.budget_reached


def keeper(lake: Lake, seconds_per_chunk: float | None) -> BudgetKeeper:
    """Of a job over three checkpoints of 4 products with a budget of 100 s."""
    plan = plan_products(lake, products(12), checkpoint_size=4).plan
    spec = job_spec(
        plan,
        plan.checkpoints,
        lake=lake.uri,
        engine=EngineSettings(),
        budget=BUDGET,
        seconds_per_chunk=seconds_per_chunk,
    )
    return BudgetKeeper(spec)


def test_a_lease_takes_the_predicted_seconds_until_something_was_measured(lake: Lake) -> None:
    found = keeper(lake, seconds_per_chunk=2.0)
    first, second, third = found.spec.checkpoints
    # 3,500 characters are three chunks of 300 tokens.
    assert found.expected_seconds([first, second]) == 8 * 3 * 2.0
    found.spec = found.spec.model_copy(update={"chunks_per_product": 40.5})
    assert found.expected_seconds([first]) == 4 * 40.5 * 2.0
    found.measured(first, 8.0)
    assert found.expected_seconds([second, third]) == 16.0
    assert found.fits([second, third])
    assert not found.is_reached
    found.measured(second, 300.0)
    assert not found.fits([third])
    assert found.is_reached


def test_budget_and_prediction_are_not_part_of_a_jobs_name(lake: Lake) -> None:
    limited, free = keeper(lake, 1.0).spec, keeper(lake, None).spec
    assert (limited.name, limited.work_hash) == (free.name, free.work_hash)
    assert free.model_copy(update={"recompute": True}).work_hash != free.work_hash


def test_leases_become_smaller_towards_the_end(lake: Lake, pegasus: Path) -> None:
    _, spec = spec_for(lake, pegasus, texts(64))
    pending = require_plan(lake).checkpoints
    found = Dealer(pending, ProgressReporter(lake, spec), BudgetKeeper(spec))
    found.pool_products = 24
    sizes = []
    while found.has_work:
        sizes.append(len(found.next_lease((), workers=2)))
    assert sum(sizes) == len(pending) == 16
    assert sizes[0] > sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
