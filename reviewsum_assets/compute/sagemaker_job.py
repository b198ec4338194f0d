"""One job of SageMaker Processing: the calls of its API, its log, its state and its end.

Requests and answers are boto3's own, so that AWS's documentation describes them.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from reviewsum_assets.compute.base import JobEnd, Tolerance, failure_of
from reviewsum_assets.compute.failures import (
    FailureKind,
    JobFailure,
    LaunchError,
    failed_job,
    refused_call,
)
from reviewsum_assets.compute.instances import capacity_of
from reviewsum_assets.compute.launches import note_end
from reviewsum_assets.errors import JobError, ReviewsumError
from reviewsum_assets.job.progress import JobResult, read_result
from reviewsum_assets.job.spec import JobSpec

if TYPE_CHECKING:
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
_TAIL_LINES = 100
# Of 10,000 lines or 1 MB each: a verbose job must not keep its run from polling it.
_PAGES_PER_CALL = 10
_STOP_SECONDS = 180.0
# How long a job's state may be unknown before its run gives up; the job itself continues.
_UNKNOWN_SECONDS = 900.0
# The last lines of a log may reach CloudWatch after the job's end.
_LOG_DRAIN_POLLS = 3

_log = logging.getLogger(__name__)


class NameTaken(Exception):  # noqa: N818 - nothing is wrong: the job exists already
    """A job of this name exists in the account and region."""


@dataclass(frozen=True)
class JobDescription:
    """The answer of DescribeProcessingJob; times are in UTC."""

    raw: Mapping[str, Any]

    @property
    def status(self) -> str:
        """InProgress, Stopping, Completed, Failed or Stopped."""
        return str(self.raw["ProcessingJobStatus"])

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.status in ("InProgress", "Stopping")

    @property
    def instances(self) -> tuple[str, int]:
        """Type and number of the billed instances."""
        cluster = self.raw["ProcessingResources"]["ClusterConfig"]
        wanted = cluster if "InstanceType" in cluster else cluster["InstancePreferences"][0]
        return (
            cluster.get("SelectedInstanceType") or wanted["InstanceType"],
            cluster.get("SelectedInstanceCount") or wanted["InstanceCount"],
        )

    @property
    def billed_seconds(self) -> float:
        """Seconds since the container started on an instance.

        Billing begins no later. Accounts show that the minutes of provisioning before it are free,
        which is not documented for Processing.
        """
        started = self.raw.get("ProcessingStartTime")
        if started is None:
            return 0.0
        ended = self.raw.get("ProcessingEndTime")
        if ended is None:
            # The service's clock: this host's may show another time.
            date = self.raw["ResponseMetadata"]["HTTPHeaders"].get("date")
            ended = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return max(0.0, float((ended - started).total_seconds()))

    @property
    def has_reached_its_time_limit(self) -> bool:
        """Whether it ran as long as it was allowed to."""
        limit = self.raw.get("StoppingCondition", {}).get("MaxRuntimeInSeconds")
        return limit is not None and self.billed_seconds >= limit

    @property
    def inputs(self) -> Mapping[str, str]:
        """S3 URIs of its inputs, by their names."""
        sources = self.raw.get("ProcessingInputs", [])
        return {source["InputName"]: source.get("S3Input", {}).get("S3Uri") for source in sources}


class ProcessingApi:
    """Calls SageMaker; every method raises LaunchError if that refuses or cannot be reached."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def create(self, *, request: Mapping[str, Any]) -> None:
        """Create a job.

        Raises:
            NameTaken: A job of this name exists, perhaps made by an attempt of this very call.
        """
        with _as_launch_error():
            try:
                self._client.create_processing_job(**request)
            except ClientError as error:
                if _code_and_message(error)[0] == "ResourceInUse":
                    raise NameTaken(str(error)) from error
                raise

    def describe(self, *, name: str) -> JobDescription | None:
        """Return a job, or None if there is none of this name."""
        with _as_launch_error():
            try:
                return JobDescription(self._client.describe_processing_job(ProcessingJobName=name))
            except ClientError as error:
                code, message = _code_and_message(error)
                if code in ("ResourceNotFound", "ValidationException") and "not find" in message:
                    return None
                raise

    def stop(self, *, name: str) -> None:
        """Ask a job to end; do nothing if it has ended or is ending."""
        with _as_launch_error():
            try:
                self._client.stop_processing_job(ProcessingJobName=name)
            except ClientError:
                found = self.describe(name=name)
                if found is not None and found.status == "InProgress":
                    raise


@contextmanager
def _as_launch_error() -> Iterator[None]:
    """Turn boto3's errors into LaunchError."""
    try:
        yield
    except ClientError as error:
        raise LaunchError(refused_call(*_code_and_message(error))) from error
    except BotoCoreError as error:
        raise LaunchError(refused_call(type(error).__name__, str(error))) from error


def _code_and_message(error: ClientError) -> tuple[str, str]:
    details = error.response.get("Error", {})
    return details.get("Code", "unknown"), details.get("Message", str(error))


def console_links(region: str, name: str) -> dict[str, str]:
    """Return the URLs of the job's page and of its log, by name."""
    console = f"https://{region}.console.aws.amazon.com"
    # The console wants names quoted twice, with dollars for the outer quotes.
    group, stream = (
        quote(quote(text, safe="")).replace("%", "$") for text in (LOG_GROUP, f"{name}/")
    )
    return {
        "job_page": f"{console}/sagemaker/home?region={region}#/processing-jobs/{name}",
        "job_log": (
            f"{console}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/"
            f"{group}$3FlogStreamNameFilter$3D{stream}"
        ),
    }


class ContainerLogs:
    """Reads the log streams of one job from their beginning, a line at a time with its host."""

    def __init__(self, client: Any, job: str, write: Callable[[str], None]) -> None:
        self._client = client
        self._job = job
        self._write = write
        self._tokens: dict[str, str] = {}
        self._newest: dict[str, int] = {}  # time of the last line, in ms
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    @property
    def tail(self) -> str:
        """The last lines that were written."""
        return "\n".join(self._tail)

    def pass_on(self) -> int:
        """Write the new lines; return their number.

        Errors of the service are logged, since the job does not depend on its logs. A stream that
        cannot be read does not hold up the others.
        """
        lines = 0
        for stream in self._streams():
            try:
                for line in self._new_lines(stream):
                    lines += 1
                    self._tail.append(line)
                    self._write(line)
            except (ClientError, BotoCoreError) as error:
                _log.warning("cannot read the log stream %s now: %s", stream, error)
                is_refused = isinstance(error, ClientError)
                if is_refused and _code_and_message(error)[0] == "InvalidParameterException":
                    self._tokens.pop(stream, None)  # a token expires after 24 hours
        return lines

    def _streams(self) -> list[str]:
        pages = self._client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._job}/"
        )
        try:
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except self._client.exceptions.ResourceNotFoundException:
            return []  # the group is made with the first job of an account
        except (ClientError, BotoCoreError) as error:
            _log.warning("cannot list the log streams of %s now: %s", self._job, error)
            return []

    def _new_lines(self, stream: str) -> Iterator[str]:
        host = stream.removeprefix(f"{self._job}/").rpartition("-")[0]
        for _ in range(_PAGES_PER_CALL):
            token = self._tokens.get(stream)
            more: dict[str, Any] = {} if token is None else {"nextToken": token}
            if token is None and stream in self._newest:
                # After an expired token. Lines of the very last millisecond come twice.
                more = {"startTime": self._newest[stream]}
            page = self._client.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **more
            )
            for event in page["events"]:
                self._newest[stream] = max(self._newest.get(stream, 0), event["timestamp"])
                yield f"[{host}] {event['message']}"
            if page["nextForwardToken"] == token:
                break
            self._tokens[stream] = page["nextForwardToken"]


@dataclass
class SageMakerJob:
    """A Processing job, observed through the API."""

    compute: SageMakerCompute
    spec: JobSpec
    attached: bool
    was_stopping: bool = False
    _tolerance: Tolerance = field(default_factory=lambda: Tolerance(_UNKNOWN_SECONDS), repr=False)
    _last: JobDescription | None = field(default=None, repr=False)

    @cached_property
    def logs(self) -> ContainerLogs:
        """The containers' log."""
        return ContainerLogs(self.compute.logs_client, self.spec.name, write_log)

    @property
    def links(self) -> dict[str, str]:
        """The job's page and its log in the AWS console."""
        return console_links(self.compute.region, self.spec.name)

    def poll(self) -> JobEnd | None:
        """Return None while it runs, and for a time while SageMaker or the lake do not answer."""
        end: JobEnd | None = None
        try:
            with self._tolerance.of(ReviewsumError):
                end = self._observe()
        except LaunchError as error:
            return JobEnd(failure=error.failure)
        except ReviewsumError as error:
            return JobEnd(failure=JobFailure(FailureKind.SERVICE, str(error)))
        return end

    def _observe(self) -> JobEnd | None:
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
            for _ in range(_LOG_DRAIN_POLLS):
                time.sleep(min(self.compute.poll_seconds, 5.0))
                if not self.logs.pass_on():
                    break
        result = read_result(self.compute.lake, self.spec.name)
        end = JobEnd(result, self._failure(found, result), self.usd_so_far())
        note_end(self.compute.lake, self.spec.name)
        return end

    def _failure(self, found: JobDescription, result: JobResult | None) -> JobFailure | None:
        if found.status == "Completed":
            missing = JobFailure(FailureKind.JOB, "it completed without leaving a result")
            return missing if result is None else failure_of(result)
        if found.status == "Stopped" and found.has_reached_its_time_limit:
            reason = f"SageMaker stopped it after {found.billed_seconds:.0f} s"
            return JobFailure(FailureKind.TIME_LIMIT, reason)
        if found.status == "Stopped":
            return JobFailure(FailureKind.STOPPED, "a user, or another run, stopped it")
        return failed_job(
            str(found.raw.get("FailureReason", "")),
            str(found.raw.get("ExitMessage", "")),
            self.log_tail(),
            checkpoints_failed=result is not None and bool(result.failed),
        )

    def log_tail(self) -> str:
        """Return the last lines of the containers' log."""
        return self.logs.tail

    def usd_so_far(self) -> float:
        """Return billed time times the price of its instances; 0 if the price is not known."""
        if self._last is None:
            return 0.0
        name, instances = self._last.instances
        hourly = capacity_of([name], instances, self.compute.usd_per_hour).usd_per_hour * instances
        return self._last.billed_seconds / 3600 * hourly

    def request_stop(self) -> None:
        """Ask SageMaker to end it: the containers get SIGTERM or SIGINT, then SIGKILL."""
        self.compute.api.stop(name=self.spec.name)

    def stop(self) -> None:
        """Ask SageMaker to end it and wait for at most three minutes.

        Raises:
            JobError: It has not ended by then.
        """
        deadline = time.monotonic() + _STOP_SECONDS
        tolerance, is_asked = Tolerance(_STOP_SECONDS), False
        while time.monotonic() < deadline:
            if not is_asked:
                with tolerance.of(LaunchError):
                    self.request_stop()
                    is_asked = True
            if self.poll() is not None:
                return
            time.sleep(min(self.compute.poll_seconds, 5.0))
        raise JobError(
            f"job {self.spec.name} was asked to stop and has not ended within "
            f"{_STOP_SECONDS:.0f} s; see {self.links['job_page']}"
        )


def write_log(line: str) -> None:
    """Write a line of a container's log to standard error."""
    sys.stderr.write(f"{line}\n")
