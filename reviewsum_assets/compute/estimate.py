"""The bill before it is paid, and the job order that keeps to it."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint, Recipe
from reviewsum_assets.compute.base import Capacity, Compute, hourly_usd, job_budget
from reviewsum_assets.compute.pace import Pace, Work, count_chunks, expected_pace
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.models.directory import read_ready_model
from reviewsum_assets.job.spec import LOCAL_HOST, Budget, JobSpec, job_spec
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage.lake import Lake

_HOUR = 3600.0
# A job that takes longer than this beyond its estimate counts as stuck.
_HEADROOM_FACTOR = 3.0
_HEADROOM_SECONDS = 3600.0
# Time for the checkpoints in progress when the budget is reached.
_BUDGET_HEADROOM_SECONDS = 900.0
_SHORTEST_SECONDS = 2 * 3600.0
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingStoppingCondition.html
_LONGEST_SECONDS = 777_600.0


class Span(BaseModel):
    """An expected value and its range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expected: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def around(cls, expected: float, low: float = 1.0, high: float = 1.0) -> Span:
        """Make a span from the factors of its ends."""
        return cls(expected=expected, low=low * expected, high=high * expected)

    def __add__(self, other: Span) -> Span:
        return Span(**{name: value + getattr(other, name) for name, value in self})

    def times(self, factor: float) -> Span:
        """Return each of the three values, multiplied."""
        return Span(**{name: factor * value for name, value in self})


class Estimate(BaseModel):
    """The work of the pending checkpoints, and the time and cost of one job over all of them.

    ``hours`` is wall-clock from the job's start, ``usd`` the bill from its first line of code; the
    high end of the bill includes the start, in which AWS may bill the copying of image and inputs.
    Duplicate chunks are generated once, which the estimate does not foresee.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoints: int = 0
    products: int = 0
    products_counted: int = 0  # fewer than products: chunks and tokens are scaled up
    chunks: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    instance_type: str
    instances: int
    workers: int
    worker_seconds: Span = Span()  # tokenizing and generating, all workers together
    gpu_hours: Span = Span()  # the same and loading the model; 0 on CPUs
    hours: Span = Span()
    usd: Span = Span()
    basis: str

    @property
    def sentence(self) -> str:
        """The bill in one sentence, in suitable units of time."""
        if self.hours.expected < 2 / 60:
            unit, per_hour = "seconds", _HOUR
        elif self.hours.expected < 2:
            unit, per_hour = "minutes", 60.0
        else:
            unit, per_hour = "hours", 1.0
        time = self.hours.times(per_hour)
        is_local = self.instance_type == LOCAL_HOST
        where = "this machine" if is_local else f"{self.instances} x {self.instance_type}"
        usd = (
            f", {self.usd.expected:,.2f} USD ({self.usd.low:,.2f} to {self.usd.high:,.2f})"
            if self.usd.high
            else ", at no charge"
        )
        return (
            f"{self.products:,} products, {self.chunks:,} chunks, about {time.expected:,.0f} "
            f"{unit} ({time.low:,.0f} to {time.high:,.0f}) on {where}{usd}; {self.basis}"
        )


@dataclass(frozen=True)
class _Share:
    """The checkpoints of one recipe: their pace and their work."""

    pace: Pace
    works: Sequence[Work]
    products_counted: int

    @property
    def total(self) -> Work:
        return Work.total(self.works)

    def seconds(self, workers: int) -> float:
        """Wall-clock seconds: each worker takes the next checkpoint when it is done with one."""
        free_at = [0.0] * workers
        for work in self.works:
            heapq.heapreplace(free_at, free_at[0] + self.pace.seconds_per_chunk * work.chunks)
        return max(free_at)


def estimate(
    lake: Lake,
    plan: Plan | None,
    pending: Sequence[PlannedCheckpoint],
    settings: Settings,
    capacity: Capacity,
) -> Estimate:
    """Estimate one job over ``pending``, checkpoints of ``plan``; empty if there are none.

    Engine and price are taken from the settings, the rest from the plan.

    Raises:
        ReviewsumError: Grouped reviews or a model that the plan names are gone.
    """
    if plan is None or not pending:
        return Estimate(
            instance_type=capacity.instance_type,
            instances=capacity.instances,
            workers=capacity.workers,
            basis="there is no plan yet" if plan is None else "nothing is pending",
        )
    by_recipe: defaultdict[str, list[PlannedCheckpoint]] = defaultdict(list)
    for planned in pending:
        by_recipe[planned.recipe].append(planned)
    shares = [
        _share(lake, plan.recipes[key], checkpoints, settings, capacity)
        for key, checkpoints in by_recipe.items()
    ]
    products = sum(planned.products for planned in pending)
    counted = sum(share.products_counted for share in shares)
    busy = max(1, min(capacity.workers, len(pending)))
    work = running = loads = Span()
    for share in shares:
        busy_seconds = share.pace.seconds_per_chunk * share.total.chunks
        work += Span.around(busy_seconds, *share.pace.range)
        running += Span.around(share.seconds(busy), *share.pace.range)
        loads += Span.around(share.pace.load_seconds)  # all workers load in parallel
    running += loads
    with_startup = running + Span.around(capacity.startup_seconds)
    billed = running.model_copy(update={"high": with_startup.high})
    total = Work.total(share.total for share in shares)
    sampled = f"chunks and tokens scaled up from an even sample of {counted:,} products"
    counting = "chunks and tokens counted" if counted == products else sampled
    on_gpu = shares[0].pace.on_gpu
    return Estimate(
        checkpoints=len(pending),
        products=products,
        products_counted=counted,
        chunks=round(total.chunks),
        tokens_in=round(total.tokens_in),
        tokens_out=round(sum(s.total.chunks * s.pace.tokens_out_per_chunk for s in shares)),
        instance_type=capacity.instance_type,
        instances=capacity.instances,
        workers=capacity.workers,
        worker_seconds=work,
        gpu_hours=(work + loads.times(busy)).times(1 / _HOUR) if on_gpu else Span(),
        hours=with_startup.times(1 / _HOUR),
        usd=billed.times(hourly_usd(settings, capacity) / _HOUR),
        basis="; ".join([*dict.fromkeys(share.pace.basis for share in shares), counting]),
    )


def _share(
    lake: Lake,
    recipe: Recipe,
    planned: Sequence[PlannedCheckpoint],
    settings: Settings,
    capacity: Capacity,
) -> _Share:
    model = read_ready_model(lake, recipe.model_version)
    pace = expected_pace(lake, recipe, model, settings, capacity)
    tokens = pace.tokens_out_per_chunk
    return _Share(pace, *count_chunks(lake, planned, recipe, model, summary_tokens=tokens))


@dataclass(frozen=True)
class JobOrder:
    """``time_limit_seconds``: runtime after which the job is ended by force; None: no limit."""

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
    """Order a job over ``pending``.

    A job with a budget ends itself before the time limit; a job without one is limited to three
    times the high end of its estimate, and an hour.

    Raises:
        SettingsError: A budget in money is set, and there is no price.
        ReviewsumError: Grouped reviews or a model that the plan names are gone.
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
        worst = estimate(lake, plan, pending, settings, capacity).hours.high * _HOUR
        limit = _time_limit(worst, budget)
    # The first checkpoint's products have the most reviews: others hold no more chunks.
    recipe = plan.recipes[pending[0].recipe]
    if budget is None or recipe.settings.strategy == "join":  # max_chars bounds them well enough
        chunks_per_product = None
        model = read_ready_model(lake, recipe.model_version)
        pace = expected_pace(lake, recipe, model, settings, capacity)
    else:
        share = _share(lake, recipe, [pending[0]], settings, capacity)
        chunks_per_product, pace = share.total.chunks / pending[0].products, share.pace
    spec = job_spec(
        plan,
        tuple(pending),
        lake=lake.uri,
        engine=settings.engine_settings(),
        recompute=recompute,
        budget=budget,
        seconds_per_chunk=pace.seconds_per_chunk,
        chunks_per_product=chunks_per_product,
    )
    return JobOrder(spec, limit)


def _time_limit(worst_seconds: float, budget: Budget | None) -> int:
    if budget is not None:
        limit = budget.max_seconds + max(_BUDGET_HEADROOM_SECONDS, budget.max_seconds / 4)
    else:
        limit = max(_SHORTEST_SECONDS, _HEADROOM_FACTOR * worst_seconds + _HEADROOM_SECONDS)
    return round(min(limit, _LONGEST_SECONDS))
