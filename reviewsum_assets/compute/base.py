"""The small interface behind which jobs run: start one, find the live ones, poll, stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.compute.failures import FailureKind, JobFailure
from reviewsum_assets.job.progress import JobResult
from reviewsum_assets.job.spec import Budget, JobSpec
from reviewsum_assets.settings import Settings


@dataclass(frozen=True)
class Launch:
    """Who starts a job, and how.

    ``pipes_context`` is what Pipes tells the job of its run, as JSON; ``time_limit_seconds`` when
    the job is ended by force.
    """

    run_id: str = ""
    pipes_context: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    time_limit_seconds: int | None = None


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: no result if it did not end by itself, no failure if all went well."""

    result: JobResult | None = None
    failure: JobFailure | None = None
    usd: float = 0.0


@dataclass(frozen=True)
class Capacity:
    """What a job gets to work with, and at what price."""

    instance_type: str
    instances: int
    workers: int  # devices of all instances together
    usd_per_hour: float  # of one instance; 0: not billed
    startup_seconds: float  # from the start of a job to its first line of code
    gpu: str = ""  # kind of GPU; empty if unknown
    gpu_speed: float = 1.0  # of one GPU, relative to an A10G


class RunningJob(Protocol):
    """A job that was started, by this process or by another."""

    @property
    def spec(self) -> JobSpec:
        """What it computes; its name includes the attempt."""

    @property
    def attached(self) -> bool:
        """Whether another process started it."""

    @property
    def was_stopping(self) -> bool:
        """Whether it had been asked to end before this process looked at it."""

    @property
    def links(self) -> Mapping[str, str]:
        """Where people find it and its log: paths or URLs, by what they show."""

    def poll(self) -> JobEnd | None:
        """None while it runs.

        Raises:
            JobError: its state cannot be found out.
        """

    def log_tail(self) -> str:
        """The last lines of its log."""

    def usd_so_far(self) -> float:
        """What it has cost until now."""

    def request_stop(self) -> None:
        """Ask it to end, and do not wait."""

    def stop(self) -> None:
        """End it and wait, within a bound, until it has ended."""


class Compute(Protocol):
    """A place where jobs run."""

    @property
    def poll_seconds(self) -> float:
        """How long to wait between looks at a job."""

    @property
    def needs_time_limit(self) -> bool:
        """Whether a job that hangs goes on costing money."""

    @property
    def capacity(self) -> Capacity:
        """What a job started now would get."""

    @property
    def notices(self) -> Sequence[str]:
        """What is worth knowing before a job starts, a sentence each."""

    def start(self, spec: JobSpec, launch: Launch) -> RunningJob:
        """Start a job, or attach to the live one that does the very same work.

        Raises:
            LaunchError: it cannot be started; says why and what to do.
        """

    def links_of(self, producer: Producer) -> Mapping[str, str]:
        """Where people find the job that made a checkpoint, and its log; empty if it ran elsewhere.

        Paths or URLs, by what they show; what they show may have been removed since.
        """

    def live_jobs(self) -> Sequence[RunningJob]:
        """Every job on this lake that is running now, whoever started it."""


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
