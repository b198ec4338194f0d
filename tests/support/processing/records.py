"""The jobs that the emulator accepted, as moto shows them, and the calls that it received."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from moto.sagemaker.models import FakeProcessingJob, sagemaker_backends

ACCOUNT = "123456789012"
REGION = "us-east-1"

Status = Literal["InProgress", "Stopping", "Stopped", "Completed", "Failed"]
# The caller: code under test, or the code of a job's container.
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


def publish(record: JobRecord) -> None:
    """Let moto show the record's present state. The job appears complete, or not at all.

    moto dumps every attribute of its job into the answer of DescribeProcessingJob, so only the
    service's own fields are put there: the emulator keeps its state in JobRecord.
    """
    jobs = sagemaker_backends[ACCOUNT][REGION].processing_jobs
    job = jobs.get(record.name) or _new_job(record)
    job.last_modified_time = datetime.now(UTC)
    job.processing_start_time = _time(record.started)
    job.processing_end_time = _time(record.ended)
    job.failure_reason = record.failure_reason
    job.exit_message = record.exit_message
    # The status last: a client that sees the end also sees its reason.
    job.processing_job_status = record.status
    jobs[record.name] = job


def _new_job(record: JobRecord) -> Any:
    request = record.request
    job = FakeProcessingJob(
        app_specification=request["AppSpecification"],
        experiment_config=None,
        network_config=request.get("NetworkConfig"),
        processing_inputs=request.get("ProcessingInputs"),
        processing_job_name=record.name,
        processing_output_config=request.get("ProcessingOutputConfig"),
        account_id=ACCOUNT,
        region_name=REGION,
        role_arn=request["RoleArn"],
        tags=list(request.get("Tags", [])),
        stopping_condition=request.get("StoppingCondition"),
    )
    job.processing_resources = request["ProcessingResources"]
    job.environment = request.get("Environment")
    job.creation_time = _time(record.created)
    return job


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
