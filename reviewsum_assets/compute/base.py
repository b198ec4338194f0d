"""The interface behind which jobs run: start one, find the live ones, poll, stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.compute.failures import FailureKind, JobFailure
from reviewsum_assets.job.progress import JobResult
from reviewsum_assets.job.spec import Budget, JobSpec
from reviewsum_assets.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """The run that starts a job, and its conditions.

    ``pipes_context`` is the Dagster Pipes context as JSON; ``time_limit_seconds`` is the runtime
    after which the job is ended by force.
    """

    run_id: str = ""
    pipes_context: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    time_limit_seconds: int | None = None


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: no result if it was killed, no failure if all went well."""

    result: JobResult | None = None
    failure: JobFailure | None = None
    usd: float = 0.0


@dataclass(frozen=True)
class Capacity:
    """The instances of a job and their price."""

    instance_type: str
    instances: int
    workers: int  # devices of all instances together
    usd_per_hour: float  # of one instance; 0: not billed
    startup_seconds: float  # from the start of a job to its first line of code
    gpu: str = ""  # kind of GPU; empty if unknown
    gpu_speed: float = 1.0  # of one GPU, relative to an A10G


class RunningJob(Protocol):
    """A job that was started, by this process or by another one."""

    @property
    def spec(self) -> JobSpec:
        """The job's work; its name includes the attempt."""

    @property
    def attached(self) -> bool:
        """Whether another process started it."""

    @property
    def was_stopping(self) -> bool:
        """Whether it had been asked to end before this process found it."""

    @property
    def links(self) -> Mapping[str, str]:
        """Paths or URLs of the job and its log, by name."""

    def poll(self) -> JobEnd | None:
        """Return None while it runs.

        Raises:
            JobError: Its state cannot be read.
        """

    def log_tail(self) -> str:
        """Return the last lines of its log."""

    def usd_so_far(self) -> float:
        """Return its cost until now."""

    def request_stop(self) -> None:
        """Ask it to end, without waiting."""

    def stop(self) -> None:
        """End it, and wait for a bounded time until it has ended."""


class Compute(Protocol):
    """A place where jobs run."""

    @property
    def poll_seconds(self) -> float:
        """Seconds between two polls of a job."""

    @property
    def needs_time_limit(self) -> bool:
        """Whether a job that hangs keeps costing money."""

    @property
    def capacity(self) -> Capacity:
        """Capacity of a job started now."""

    @property
    def notices(self) -> Sequence[str]:
        """Warnings to show before a job starts, one sentence each."""

    def start(self, spec: JobSpec, launch: Launch) -> RunningJob:
        """Start a job, or attach to the live one that does the same work.

        Raises:
            LaunchError: It cannot be started; says why and what to do.
        """

    def links_of(self, producer: Producer) -> Mapping[str, str]:
        """Return the links of the job that made a checkpoint; empty if it ran elsewhere.

        The pages or files may have been removed since.
        """

    def live_jobs(self) -> Sequence[RunningJob]:
        """Return every running job on this lake, whichever process started it."""


class Tolerance:
    """Suppresses errors of a kind until no attempt has succeeded for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    @contextmanager
    def of(self, kind: type[Exception]) -> Iterator[None]:
        """Run a block; log an error of ``kind``, or raise it once the time is over."""
        try:
            yield
        except kind as error:
            now = time.monotonic()
            self._since = now if self._since is None else self._since
            if now - self._since > self._seconds:
                raise
            _log.warning("trying again: %s", error)
        else:
            self._since = None


def failure_of(result: JobResult) -> JobFailure | None:
    """Return why a job that left a result did not do all its work, or None if it did."""
    if result.stopped:
        return JobFailure(FailureKind.STOPPED, "it was stopped by a signal")
    if result.failed:
        return JobFailure(FailureKind.CHECKPOINTS, f"{len(result.failed)} checkpoints failed")
    if result.budget_reached:
        return JobFailure(FailureKind.BUDGET, result.budget_reached)
    return None


def hourly_usd(settings: Settings, capacity: Capacity) -> float:
    """Return the price of all instances of a job in USD per hour; 0 where nothing is billed."""
    price = capacity.usd_per_hour if settings.usd_per_hour is None else settings.usd_per_hour
    return price * capacity.instances


def job_budget(settings: Settings, capacity: Capacity) -> Budget | None:
    """Return the tighter of ``max_cost_usd`` and ``max_runtime``; None if neither limits a job."""
    limits = []
    cost, hourly = settings.max_cost_usd, hourly_usd(settings, capacity)
    if cost and hourly:
        reason = f"max_cost_usd {cost:.2f} at {hourly:.2f} USD per hour"
        limits.append(Budget(max_seconds=cost / hourly * 3600, reason=reason))
    if settings.max_runtime:
        reason = f"max_runtime {settings.max_runtime:,} s"
        limits.append(Budget(max_seconds=settings.max_runtime, reason=reason))
    return min(limits, key=lambda limit: limit.max_seconds, default=None)
