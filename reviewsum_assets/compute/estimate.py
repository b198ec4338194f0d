"""The bill before it is paid: what computing the pending checkpoints will take and cost."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint, Recipe
from reviewsum_assets.compute.base import Capacity, Compute, hourly_usd, job_budget
from reviewsum_assets.compute.chunk_counts import ChunkCounts, count_chunks
from reviewsum_assets.compute.pace import Pace, expected_pace
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.models.directory import read_ready_model
from reviewsum_assets.job.spec import LOCAL_HOST, Budget, JobSpec, job_spec
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage.lake import Lake

_HOUR = 3600.0


class Span(BaseModel):
    """What is expected, and between what it should lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expected: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Span) -> Span:
        return Span(
            expected=self.expected + other.expected,
            low=self.low + other.low,
            high=self.high + other.high,
        )

    def times(self, factor: float) -> Span:
        """Each of the three, multiplied."""
        return Span(expected=factor * self.expected, low=factor * self.low, high=factor * self.high)


class Estimate(BaseModel):
    """What the pending checkpoints hold, and what one job over all of them will take.

    ``hours`` is wall-clock from the job's start, ``usd`` the bill from its first line of code; the
    high end of the bill includes the start, in which AWS may bill the copying of image and inputs.
    Chunks that occur twice are generated once, which none of this foresees.
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
        """The bill in one sentence, in units that a person thinks in."""
        unit, hours = _time_unit(self.hours.expected)
        time = self.hours.times(1 / hours)
        where = f"{self.instances} x {self.instance_type}"
        usd = (
            f", {self.usd.expected:,.2f} USD ({self.usd.low:,.2f} to {self.usd.high:,.2f})"
            if self.usd.high
            else ", at no charge"
        )
        return (
            f"{self.products:,} products, {self.chunks:,} chunks, about "
            f"{time.expected:,.0f} {unit} ({time.low:,.0f} to {time.high:,.0f}) on "
            f"{'this machine' if self.instance_type == LOCAL_HOST else where}{usd}; {self.basis}"
        )


def _time_unit(hours: float) -> tuple[str, float]:
    """The unit that a person would use for a time, and its length in hours."""
    if hours < 2 / 60:
        return "seconds", 1 / _HOUR
    return ("minutes", 1 / 60) if hours < 2 else ("hours", 1.0)


@dataclass(frozen=True)
class Share:
    """The checkpoints of one recipe: their pace, and what they hold."""

    pace: Pace
    counts: ChunkCounts


def estimate(
    lake: Lake,
    plan: Plan | None,
    pending: Sequence[PlannedCheckpoint],
    settings: Settings,
    capacity: Capacity,
) -> Estimate:
    """What computing ``pending`` will take; nothing, if there is none or no plan.

    Args:
        lake: holds grouped reviews, models and the manifests of what is done.
        plan: the current one.
        pending: checkpoints of ``plan`` that are not valid.
        settings: engine and price are taken from it, all else from the plan.
        capacity: of the compute that would run the job.

    Raises:
        ReviewsumError: grouped reviews or a model that the plan names are gone.
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
    return priced(shares, sum(planned.products for planned in pending), settings, capacity)


def priced(
    shares: Sequence[Share], products: int, settings: Settings, capacity: Capacity
) -> Estimate:
    """What one job over all checkpoints of some shares, of so many products, will take."""
    checkpoints = sum(len(share.counts.checkpoints) for share in shares)
    busy = max(1, min(capacity.workers, checkpoints))
    counted = sum(share.counts.products_counted for share in shares)
    work, loads = _sum(map(_work, shares)), _sum(map(_load, shares))
    running = loads + _sum(_generating(share, busy) for share in shares)
    startup = _fixed(capacity.startup_seconds)
    return Estimate(
        checkpoints=checkpoints,
        products=products,
        products_counted=counted,
        chunks=round(sum(share.counts.chunks for share in shares)),
        tokens_in=round(sum(share.counts.tokens_in for share in shares)),
        tokens_out=round(
            sum(share.counts.chunks * share.pace.tokens_out_per_chunk for share in shares)
        ),
        instance_type=capacity.instance_type,
        instances=capacity.instances,
        workers=capacity.workers,
        worker_seconds=work,
        gpu_hours=(
            (work + loads.times(busy)).times(1 / _HOUR) if shares[0].pace.on_gpu else Span()
        ),
        hours=(startup + running).times(1 / _HOUR),
        usd=running.model_copy(update={"high": (startup + running).high}).times(
            hourly_usd(settings, capacity) / _HOUR
        ),
        basis=_basis(shares, counted, products),
    )


def seconds_per_chunk(
    lake: Lake, plan: Plan, planned: PlannedCheckpoint, settings: Settings, capacity: Capacity
) -> float:
    """What one worker is expected to need for a chunk of this checkpoint."""
    recipe = plan.recipes[planned.recipe]
    model = read_ready_model(lake, recipe.model_version)
    return expected_pace(lake, recipe, model, settings, capacity).seconds_per_chunk


def chunks_per_product(
    lake: Lake, plan: Plan, planned: PlannedCheckpoint, settings: Settings, capacity: Capacity
) -> float | None:
    """Chunks a product of this checkpoint; None where ``max_chars`` tells it well enough."""
    if plan.recipes[planned.recipe].settings.strategy == "join":
        return None
    share = _share(lake, plan.recipes[planned.recipe], [planned], settings, capacity)
    return share.counts.chunks / planned.products


def _share(
    lake: Lake,
    recipe: Recipe,
    planned: Sequence[PlannedCheckpoint],
    settings: Settings,
    capacity: Capacity,
) -> Share:
    model = read_ready_model(lake, recipe.model_version)
    pace = expected_pace(lake, recipe, model, settings, capacity)
    counts = count_chunks(lake, planned, recipe, model, summary_tokens=pace.tokens_out_per_chunk)
    return Share(pace, counts)


def _work(share: Share) -> Span:
    """Seconds of all workers together."""
    return _ranged(
        share.pace, share.pace.worker_seconds(share.counts.chunks, share.counts.tokens_in)
    )


def _load(share: Share) -> Span:
    """Seconds until a worker has its model; all workers load side by side."""
    return _fixed(share.pace.load_seconds)


def _generating(share: Share, workers: int) -> Span:
    """Wall-clock seconds: each worker takes the next checkpoint when it is done with one."""
    free_at = [0.0] * workers
    for count in share.counts.checkpoints:
        seconds = share.pace.worker_seconds(count.chunks, count.tokens_in)
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return _ranged(share.pace, max(free_at))


def _ranged(pace: Pace, seconds: float) -> Span:
    low, high = pace.range
    return Span(expected=seconds, low=low * seconds, high=high * seconds)


def _fixed(seconds: float) -> Span:
    return Span(expected=seconds, low=seconds, high=seconds)


def _sum(spans: Iterable[Span]) -> Span:
    return sum(spans, Span())


def _basis(shares: Sequence[Share], counted: int, products: int) -> str:
    counting = (
        "chunks and tokens counted"
        if counted == products
        else f"chunks and tokens scaled up from an even sample of {counted:,} products"
    )
    return "; ".join([*dict.fromkeys(share.pace.basis for share in shares), counting])


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
