"""What the emulator remembers: the jobs it accepted and the calls it received."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

ACCOUNT = "123456789012"
REGION = "us-east-1"

Status = Literal["InProgress", "Stopping", "Stopped", "Completed", "Failed"]
# Who called: code under test, or the code of a job's container.
Caller = Literal["client", "container"]


@dataclass
class JobRecord:
    """One accepted Processing job, kept up to date while it lives.

    ``request`` is the body of CreateProcessingJob as it was received; times are unix seconds.
    """

    name: str
    request: dict[str, Any]
    status: Status = "InProgress"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    exit_codes: list[int] = field(default_factory=list)
    failure_reason: str | None = None
    exit_message: str | None = None

    @property
    def arn(self) -> str:
        """The job's Amazon Resource Name."""
        return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:processing-job/{self.name}"

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts, as containers see them."""
        count = self.request["ProcessingResources"]["ClusterConfig"].get("InstanceCount", 1)
        return [f"algo-{number}" for number in range(1, count + 1)]

    @property
    def billable_seconds(self) -> float:
        """Seconds from start to end, or to now, times hosts; a job that never started is free."""
        if self.started is None:
            return 0.0
        return ((self.ended or time.time()) - self.started) * len(self.hosts)


@dataclass(frozen=True)
class ApiCall:
    """One HTTP request that the emulator received, with the status it was answered with.

    ``action`` is the operation's name, or for S3 the HTTP method; only S3 has ``bucket``, and
    ``key`` or the ``prefix`` of a listing. A response that was lost on purpose is recorded with
    the status it would have had.
    """

    service: str
    action: str
    status: int
    caller: Caller
    method: str
    bucket: str = ""
    key: str = ""
    prefix: str = ""
