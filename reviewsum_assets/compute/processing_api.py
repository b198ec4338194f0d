"""SageMaker's Processing API as this project uses it: create, describe, stop, and their errors.

Requests and answers are boto3's own, so that AWS's documentation describes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from reviewsum_assets.compute.failures import JobFailure, LaunchError, refused_call

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
_LIVE = frozenset({"InProgress", "Stopping"})


class NameTaken(Exception):  # noqa: N818 - nothing is wrong: the job exists already
    """A job of this name exists in the account and region."""


@dataclass(frozen=True)
class JobDescription:
    """What DescribeProcessingJob says of a job; times are in UTC."""

    raw: Mapping[str, Any]

    @property
    def status(self) -> str:
        """InProgress, Stopping, Completed, Failed or Stopped."""
        return str(self.raw["ProcessingJobStatus"])

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.status in _LIVE

    @property
    def is_stopping(self) -> bool:
        """Whether it has been asked to end."""
        return self.status == "Stopping"

    @property
    def failure_reason(self) -> str:
        """Why it failed, in SageMaker's words."""
        return str(self.raw.get("FailureReason", ""))

    @property
    def exit_message(self) -> str:
        """What the job left in ``/opt/ml/output/message``."""
        return str(self.raw.get("ExitMessage", ""))

    @property
    def instance_type(self) -> str:
        """The one the job got, or will get."""
        cluster = self._cluster
        wanted = cluster.get("InstanceType") or cluster["InstancePreferences"][0]["InstanceType"]
        return str(cluster.get("SelectedInstanceType") or wanted)

    @property
    def instance_count(self) -> int:
        """How many instances are billed."""
        cluster = self._cluster
        return int(cluster.get("SelectedInstanceCount") or cluster.get("InstanceCount") or 1)

    @property
    def billed_seconds(self) -> float:
        """Since the container started on an instance.

        Billing begins no later. That the minutes of provisioning before it are free is how
        accounts are seen to be billed, and not documented for Processing.
        """
        started = self.raw.get("ProcessingStartTime")
        if started is None:
            return 0.0
        ended = self.raw.get("ProcessingEndTime") or self._answered_at
        return max(0.0, float((ended - started).total_seconds()))

    @property
    def _answered_at(self) -> datetime:
        """When this was true, by the service's clock: this host's may show another time."""
        date = self.raw["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date) if date else datetime.now(timezone.utc)

    @property
    def has_reached_its_time_limit(self) -> bool:
        """Whether it ran as long as it was allowed to."""
        limit = self.raw.get("StoppingCondition", {}).get("MaxRuntimeInSeconds")
        return limit is not None and self.billed_seconds >= limit

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables it was created with."""
        return dict(self.raw.get("Environment", {}))

    @property
    def inputs(self) -> Mapping[str, str]:
        """Where on S3 its inputs lie, by their names."""
        sources = self.raw.get("ProcessingInputs", [])
        return {source["InputName"]: source.get("S3Input", {}).get("S3Uri") for source in sources}

    @property
    def _cluster(self) -> Mapping[str, Any]:
        cluster: Mapping[str, Any] = self.raw["ProcessingResources"]["ClusterConfig"]
        return cluster


class ProcessingApi:
    """Calls SageMaker.

    Args:
        client: boto3's ``sagemaker`` client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def create(self, *, request: Mapping[str, Any]) -> None:
        """Create a job.

        Raises:
            NameTaken: a job of this name exists, perhaps made by an attempt of this very call.
            LaunchError: SageMaker refused, or could not be reached.
        """
        try:
            self._client.create_processing_job(**request)
        except ClientError as error:
            code, message = _code_and_message(error)
            if code == "ResourceInUse":
                raise NameTaken(message) from error
            raise LaunchError(refused_call(code, message)) from error
        except BotoCoreError as error:
            raise LaunchError(_unreachable(error)) from error

    def describe(self, *, name: str) -> JobDescription | None:
        """A job, or None if there is none of this name.

        Raises:
            LaunchError: SageMaker refused, or could not be reached.
        """
        try:
            return JobDescription(self._client.describe_processing_job(ProcessingJobName=name))
        except ClientError as error:
            code, message = _code_and_message(error)
            if code in ("ResourceNotFound", "ValidationException") and "not find" in message:
                return None
            raise LaunchError(refused_call(code, message)) from error
        except BotoCoreError as error:
            raise LaunchError(_unreachable(error)) from error

    def stop(self, *, name: str) -> None:
        """Ask a job to end; one that has ended, or is ending, is left alone.

        Raises:
            LaunchError: SageMaker refused, or could not be reached.
        """
        try:
            self._client.stop_processing_job(ProcessingJobName=name)
        except ClientError as error:
            found = self.describe(name=name)
            if found is None or found.status != "InProgress":
                return
            raise LaunchError(refused_call(*_code_and_message(error))) from error
        except BotoCoreError as error:
            raise LaunchError(_unreachable(error)) from error


def _code_and_message(error: ClientError) -> tuple[str, str]:
    details = error.response.get("Error", {})
    return details.get("Code", "unknown"), details.get("Message", str(error))


def _unreachable(error: BotoCoreError) -> JobFailure:
    return refused_call(type(error).__name__, str(error))


def console_links(region: str, name: str) -> dict[str, str]:
    """URLs of the job's page and of its log, by what they show."""
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
