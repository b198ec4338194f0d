"""Orders a job: the spec for what is pending, within its budget, and when to end it by force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.compute.base import Compute
from reviewsum_assets.compute.budget import hourly_usd, job_budget
from reviewsum_assets.compute.estimate import chunks_per_product, estimate, seconds_per_chunk
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.spec import Budget, JobSpec, job_spec
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import Settings

# What a job may take beyond what was foreseen before it counts as stuck.
_HEADROOM_FACTOR = 3.0
_HEADROOM_SECONDS = 3600.0
# What checkpoints in progress may take when the budget is reached.
_BUDGET_HEADROOM_SECONDS = 900.0
_SHORTEST_SECONDS = 2 * 3600.0
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingStoppingCondition.html
_LONGEST_SECONDS = 777_600.0


@dataclass(frozen=True)
class JobOrder:
    """``time_limit_seconds``: when whoever runs the job ends it by force; None: never."""

    spec: JobSpec
    time_limit_seconds: int | None


def order_job(
    *,
    lake: Lake,
    plan: Plan,
    pending: Sequence[PlannedCheckpoint],
    settings: Settings,
    compute: Compute,
    recompute: bool = False,
) -> JobOrder:
    """A job over ``pending``.

    A job with a budget ends itself before the time limit; one without is limited to three times
    what is expected at worst, and an hour.

    Raises:
        SettingsError: a budget in money is set, and there is no price.
        ReviewsumError: grouped reviews or a model that the plan names are gone.
    """
    capacity = compute.capacity
    if settings.max_cost_usd and compute.needs_time_limit and not hourly_usd(settings, capacity):
        raise SettingsError(
            f"max_cost_usd is set, but the price of {capacity.instance_type} is not known: set "
            "usd_per_hour"
        )
    budget = job_budget(settings, capacity)
    limit: int | None = None
    if compute.needs_time_limit:
        worst = estimate(lake, plan, pending, settings, capacity).hours.high * 3600
        limit = _time_limit(worst, budget)
    spec = job_spec(
        plan,
        tuple(pending),
        lake=lake.uri,
        engine=settings.engine_settings(),
        recompute=recompute,
        budget=budget,
        seconds_per_chunk=seconds_per_chunk(lake, plan, pending[0], settings, capacity),
        # Its products have the most reviews, so that those of the others hold no more.
        chunks_per_product=(
            None
            if budget is None
            else chunks_per_product(lake, plan, pending[0], settings, capacity)
        ),
    )
    return JobOrder(spec, limit)


def _time_limit(worst_seconds: float, budget: Budget | None) -> int:
    if budget is not None:
        limit = budget.max_seconds + max(_BUDGET_HEADROOM_SECONDS, budget.max_seconds / 4)
    else:
        limit = max(_SHORTEST_SECONDS, _HEADROOM_FACTOR * worst_seconds + _HEADROOM_SECONDS)
    return round(min(limit, _LONGEST_SECONDS))
