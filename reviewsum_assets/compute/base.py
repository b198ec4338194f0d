"""The small interface behind which jobs run: start one, find the live ones, poll, stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reviewsum_assets.job.processing import JobResult
from reviewsum_assets.job.spec import JobSpec


@dataclass(frozen=True)
class JobEnd:
    """How a job ended; no result means that it did not end by itself."""

    result: JobResult | None
    reason: str


@dataclass(frozen=True)
class Capacity:
    """What a job gets to work with, and at what price."""

    instance_type: str
    instances: int
    workers: int  # devices of all instances together
    usd_per_hour: float  # of one instance; 0: not billed
    startup_seconds: float  # from the start of a job to its first line of code; not billed


class RunningJob(Protocol):
    """A job that was started, by this process or by another."""

    @property
    def spec(self) -> JobSpec:
        """What it computes; its name includes the attempt."""

    @property
    def attached(self) -> bool:
        """Whether another process started it."""

    @property
    def log_location(self) -> str:
        """Where people find its log."""

    def poll(self) -> JobEnd | None:
        """None while it runs."""

    def log_tail(self) -> str:
        """The last lines of its log."""

    def stop(self) -> None:
        """End it and wait, within a bound, until it has ended."""


class Compute(Protocol):
    """A place where jobs run."""

    @property
    def poll_seconds(self) -> float:
        """How long to wait between looks at a job."""

    @property
    def capacity(self) -> Capacity:
        """What a job started now would get."""

    def start(self, spec: JobSpec, environment: Mapping[str, str]) -> RunningJob:
        """Start a job, or attach to the live one that does the very same work.

        Raises:
            JobError: it cannot be started.
        """

    def live_jobs(self) -> Sequence[RunningJob]:
        """Every job on this lake that is running now, whoever started it."""
