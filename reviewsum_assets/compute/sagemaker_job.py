"""A SageMaker Processing job as a run follows it: state, log, cost and end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from reviewsum_assets.compute.base import JobEnd
from reviewsum_assets.compute.budget import budget_failure
from reviewsum_assets.compute.console_links import console_links
from reviewsum_assets.compute.container_logs import ContainerLogs
from reviewsum_assets.compute.failures import FailureKind, JobFailure, LaunchError, failed_job
from reviewsum_assets.compute.instances import instance_facts
from reviewsum_assets.compute.launches import note_end
from reviewsum_assets.compute.patience import Patience
from reviewsum_assets.compute.processing_api import JobDescription
from reviewsum_assets.errors import JobError, ReviewsumError
from reviewsum_assets.job.job_result import JobResult, read_result
from reviewsum_assets.job.spec import JobSpec

if TYPE_CHECKING:
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

_STOP_SECONDS = 180.0
# How long a job's state may be unknown before its run gives up; the job itself goes on.
_PATIENCE_SECONDS = 900.0
# What a job wrote last may reach CloudWatch after its end.
_LOG_DRAIN_LOOKS = 3


@dataclass
class SageMakerJob:
    """A Processing job, looked at through the API."""

    compute: SageMakerCompute
    spec: JobSpec
    attached: bool
    was_stopping: bool = False
    _patience: Patience = field(default_factory=lambda: Patience(_PATIENCE_SECONDS), repr=False)
    _last: JobDescription | None = field(default=None, repr=False)

    @cached_property
    def logs(self) -> ContainerLogs:
        """The containers' log."""
        compute = self.compute
        return ContainerLogs(compute.logs_client, self.spec.name, compute.write_log)

    @property
    def links(self) -> dict[str, str]:
        """The job's page and its log in the AWS console."""
        return console_links(self.compute.region, self.spec.name)

    def poll(self) -> JobEnd | None:
        """None while it runs, and while SageMaker or the lake do not answer for a time."""
        end: JobEnd | None = None
        try:
            with self._patience.with_errors_of(ReviewsumError):
                end = self._look()
        except LaunchError as error:
            return JobEnd(failure=error.failure)
        except ReviewsumError as error:
            return JobEnd(failure=JobFailure(FailureKind.SERVICE, str(error)))
        return end

    def _look(self) -> JobEnd | None:
        found = self.compute.api.describe(name=self.spec.name)
        if found is None:
            # It exists: a service that does not show it yet must not orphan it.
            reason = f"SageMaker shows no job {self.spec.name}"
            raise LaunchError(JobFailure(FailureKind.SERVICE, reason))
        self._last = found
        self.logs.pass_on()
        if found.is_live:
            return None
        if found.status == "Failed":
            self._drain_log()
        end = self._end(found)
        note_end(self.compute.lake, self.spec.name)
        return end

    def _drain_log(self) -> None:
        for _ in range(_LOG_DRAIN_LOOKS):
            time.sleep(min(self.compute.poll_seconds, 5.0))
            if not self.logs.pass_on():
                return

    def log_tail(self) -> str:
        """The last lines of the containers' log."""
        return self.logs.tail

    def usd_so_far(self) -> float:
        """Billed time times the price of its instances; 0 where the price is not known."""
        if self._last is None:
            return 0.0
        price = self.compute.usd_per_hour
        if price is None:
            facts = instance_facts(self._last.instance_type)
            price = 0.0 if facts is None else facts.usd_per_hour
        return self._last.billed_seconds / 3600 * price * self._last.instance_count

    def request_stop(self) -> None:
        """Ask SageMaker to end it: the containers get SIGTERM or SIGINT, then SIGKILL."""
        self.compute.api.stop(name=self.spec.name)

    def stop(self) -> None:
        """Ask SageMaker to end it and wait until it has, for three minutes at most."""
        deadline = time.monotonic() + _STOP_SECONDS
        is_asked = False
        while time.monotonic() < deadline:
            if not is_asked:
                with Patience(_STOP_SECONDS).with_errors_of(LaunchError):
                    self.request_stop()
                    is_asked = True
            if self.poll() is not None:
                return
            time.sleep(min(self.compute.poll_seconds, 5.0))
        raise JobError(
            f"job {self.spec.name} was asked to stop and has not ended within "
            f"{_STOP_SECONDS:.0f} s; see {self.links['job_page']}"
        )

    def _end(self, found: JobDescription) -> JobEnd:
        result = read_result(self.compute.lake, self.spec.name)
        return JobEnd(result, self._failure(found, result), self.usd_so_far())

    def _failure(self, found: JobDescription, result: JobResult | None) -> JobFailure | None:
        match found.status:
            case "Completed" if result is not None:
                return budget_failure(result)
            case "Completed":
                return JobFailure(FailureKind.JOB, "it completed without leaving a result")
            case "Stopped" if found.has_reached_its_time_limit:
                reason = f"SageMaker stopped it after {found.billed_seconds:.0f} s"
                return JobFailure(FailureKind.TIME_LIMIT, reason)
            case "Stopped":
                return JobFailure(FailureKind.STOPPED, "somebody, or another run, stopped it")
            case _:
                return failed_job(
                    found.failure_reason,
                    found.exit_message,
                    self.log_tail(),
                    checkpoints_failed=result is not None and bool(result.failed),
                )
