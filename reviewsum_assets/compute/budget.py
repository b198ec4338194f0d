"""Turns what a user is willing to spend, money or time, into the seconds a job may run."""

from __future__ import annotations

from reviewsum_assets.compute.base import Capacity
from reviewsum_assets.compute.failures import FailureKind, JobFailure
from reviewsum_assets.job.job_result import JobResult
from reviewsum_assets.job.spec import Budget
from reviewsum_assets.settings import Settings


def hourly_usd(settings: Settings, capacity: Capacity) -> float:
    """What all instances of a job cost an hour; 0 where nothing is billed."""
    price = capacity.usd_per_hour if settings.usd_per_hour is None else settings.usd_per_hour
    return price * capacity.instances


def job_budget(settings: Settings, capacity: Capacity) -> Budget | None:
    """The tighter of ``max_cost_usd`` and ``max_runtime``, or None if neither limits a job."""
    limits = []
    hourly = hourly_usd(settings, capacity)
    if settings.max_cost_usd and hourly:
        limits.append(
            Budget(
                max_seconds=settings.max_cost_usd / hourly * 3600,
                reason=f"max_cost_usd {settings.max_cost_usd:.2f} at {hourly:.2f} USD an hour",
            )
        )
    if settings.max_runtime:
        limits.append(
            Budget(
                max_seconds=settings.max_runtime, reason=f"max_runtime {settings.max_runtime:,} s"
            )
        )
    return min(limits, key=lambda limit: limit.max_seconds, default=None)


def budget_failure(result: JobResult) -> JobFailure | None:
    """Why a job that ended by itself left work undone: its budget, or None if it did not."""
    if not result.budget_reached:
        return None
    return JobFailure(FailureKind.BUDGET, result.budget_reached)
