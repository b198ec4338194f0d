"""Bears errors that pass by themselves, for a time."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from reviewsum_assets.compute.base import JobEnd, budget_failure
from reviewsum_assets.compute.failures import FailureKind, JobFailure, LaunchError, failed_job
from reviewsum_assets.compute.instances import instance_facts
from reviewsum_assets.compute.launches import note_end
from reviewsum_assets.compute.processing_api import LOG_GROUP, JobDescription, console_links
from reviewsum_assets.errors import JobError, ReviewsumError
from reviewsum_assets.job.progress import JobResult, read_result
from reviewsum_assets.job.spec import JobSpec

if TYPE_CHECKING:
    from reviewsum_assets.compute.sagemaker import SageMakerCompute


_log = logging.getLogger(__name__)


class Patience:
    """Swallows errors of a kind until nothing has succeeded for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    @contextmanager
    def with_errors_of(self, kind: type[Exception]) -> Iterator[None]:
        """Run a block; an error of ``kind`` is logged, or raised when patience is at its end."""
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


_TAIL_LINES = 100
# Of 10,000 lines or 1 MB each: a chatty job must not keep its run from looking at it.
_PAGES_A_CALL = 10


class ContainerLogs:
    """Reads the log streams of one job from their beginning.

    Args:
        client: boto3's ``logs`` client.
        job: the job's name.
        write: takes each line, with its host before it.
    """

    def __init__(self, client: Any, job: str, write: Callable[[str], None]) -> None:
        self._client = client
        self._job = job
        self._write = write
        self._tokens: dict[str, str] = {}
        self._newest: dict[str, int] = {}  # time of the last line, in ms
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    @property
    def tail(self) -> str:
        """The last lines that were passed on."""
        return "\n".join(self._tail)

    def pass_on(self) -> int:
        """Pass on what is new; returns how many lines that were.

        Errors of the service are logged: logs are a courtesy. A stream that cannot be read keeps
        back no other.
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
                if _is_expired(error):
                    self._tokens.pop(stream, None)
        return lines

    def _new_lines(self, stream: str) -> Iterator[str]:
        host = stream.removeprefix(f"{self._job}/").rpartition("-")[0]
        for _ in range(_PAGES_A_CALL):
            page = self._page(stream)
            for event in page["events"]:
                self._newest[stream] = max(self._newest.get(stream, 0), event["timestamp"])
                yield f"[{host}] {event['message']}"
            token = page["nextForwardToken"]
            if token == self._tokens.get(stream):
                break
            self._tokens[stream] = token

    def _streams(self) -> list[str]:
        pages = self._client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._job}/"
        )
        try:
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except self._client.exceptions.ResourceNotFoundException:
            return []  # the group comes with the first job of an account
        except (ClientError, BotoCoreError) as error:
            _log.warning("cannot list the log streams of %s now: %s", self._job, error)
            return []

    def _page(self, stream: str) -> Any:
        token = self._tokens.get(stream)
        more: dict[str, Any] = {} if token is None else {"nextToken": token}
        if token is None and stream in self._newest:
            # A token is good for 24 hours. Lines of the very last millisecond come twice.
            more = {"startTime": self._newest[stream]}
        return self._client.get_log_events(
            logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **more
        )


def _is_expired(error: ClientError | BotoCoreError) -> bool:
    """Whether the service refused a token, which it forgets after 24 hours."""
    return (
        isinstance(error, ClientError)
        and error.response.get("Error", {}).get("Code") == "InvalidParameterException"
    )


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
