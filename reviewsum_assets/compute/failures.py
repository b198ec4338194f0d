"""Failures of a Processing job by name, with their causes in AWS's words and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from reviewsum_assets.errors import JobError


class FailureKind(Enum):
    """The failures that call for different actions: name and advice."""

    advice: str

    def __new__(cls, name: str, advice: str) -> FailureKind:
        """Make the name the value; the advice is an attribute."""
        kind = object.__new__(cls)
        kind._value_ = name
        kind.advice = advice
        return kind

    CAPACITY = (
        "no capacity",
        "AWS has no such instance free now: wait, name fallback_instance_types, or use another "
        "region. Checkpoints that landed are kept.",
    )
    QUOTA = (
        "quota too small",
        "request a larger quota in the Service Quotas console of this region: Amazon SageMaker, "
        "'<instance type> for processing job usage', at least instance_count; it is 0 in a new "
        "account",
    )
    THROTTLED = (
        "throttled",
        "too many requests to SageMaker in this account: run it again later",
    )
    ACCESS = (
        "access denied",
        "grant the named action to the caller or to role_arn: the policies are in "
        "reviewsum_assets/compute/iam/",
    )
    CREDENTIALS = (
        "no valid credentials",
        "log in to AWS again, or check the profile and AWS_* variables of this process",
    )
    REQUEST = ("request refused", "correct the setting that is named")
    IMAGE = (
        "image cannot be pulled",
        "check image_uri and its region, and that role_arn may pull from ECR "
        "(ecr:BatchGetImage, ecr:GetDownloadUrlForLayer, ecr:GetAuthorizationToken)",
    )
    DISK_FULL = (
        "disk full",
        "image, model and reviews have to fit: use an instance type with a larger disk, or raise "
        "volume_gb for types without a disk of their own (not g4dn, g5, g6)",
    )
    OUT_OF_MEMORY = (
        "out of memory",
        "lower workers or batch_tokens, or use an instance type with more memory",
    )
    TIME_LIMIT = (
        "time limit reached",
        "run it again to compute the rest, or raise max_runtime; checkpoints that landed are kept",
    )
    BUDGET = (
        "budget reached",
        "run it again to continue with the same budget, or raise the limit named",
    )
    STOPPED = ("stopped", "the job was stopped by a user; run it again to compute the rest")
    INPUT = (
        "input cannot be read",
        "check that the named object exists and that role_arn may read it",
    )
    CHECKPOINTS = (
        "checkpoints failed",
        "the reasons are listed by checkpoint; fix them and run it again",
    )
    JOB = ("the job failed", "the end of the job's log says why")
    SERVICE = ("the service failed", "run it again: it attaches to the job if there is one")


@dataclass(frozen=True)
class JobFailure:
    """Why a job failed. ``reason`` is the observation, in the words of its source."""

    kind: FailureKind
    reason: str

    @property
    def advice(self) -> str:
        """The next step."""
        return self.kind.advice

    @property
    def is_passing(self) -> bool:
        """Whether a later attempt may succeed without any change."""
        return self.kind is FailureKind.CAPACITY

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.reason} ({self.advice})"


class LaunchError(JobError):
    """A job could not be started."""

    def __init__(self, failure: JobFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


_ERROR_CODES = {
    FailureKind.QUOTA: "ResourceLimitExceeded",
    FailureKind.THROTTLED: "ThrottlingException TooManyRequestsException",
    FailureKind.ACCESS: "AccessDeniedException AccessDenied",
    FailureKind.CREDENTIALS: (
        "ExpiredToken ExpiredTokenException InvalidClientTokenId NoCredentialsError "
        "PartialCredentialsError SignatureDoesNotMatch UnrecognizedClientException"
    ),
    FailureKind.REQUEST: "ValidationException InvalidParameterValue ParamValidationError",
}
# Parts of AWS's messages, in the order in which they are searched for.
_PHRASES = {
    FailureKind.CAPACITY: (
        "CapacityError",
        "InsufficientCapacity",
        "Unable to provision requested ML compute capacity",
    ),
    FailureKind.QUOTA: ("ResourceLimitExceeded",),
    FailureKind.DISK_FULL: ("No space left on device", "Errno 28"),
    FailureKind.IMAGE: ("Cannot pull", "CannotPullContainer", "ImagePull"),
    FailureKind.TIME_LIMIT: ("MaxRuntimeExceeded",),
    FailureKind.OUT_OF_MEMORY: (
        "CUDA out of memory",
        "use an instance type with more memory",
        "OutOfMemory",
        "exit code: 137",
    ),
    FailureKind.INPUT: ("Failed to download data", "Data download failed", "No S3 objects found"),
    FailureKind.SERVICE: ("InternalServerError",),
}


def refused_call(code: str, message: str) -> JobFailure:
    """Return the failure behind an error response of the SageMaker API."""
    kinds = [kind for kind, codes in _ERROR_CODES.items() if code in codes.split()]
    # In some accounts the call itself reports exhausted capacity.
    if "CapacityError" in message or code.startswith("InsufficientCapacity"):
        kinds = [FailureKind.CAPACITY]
    return JobFailure(kinds[0] if kinds else FailureKind.SERVICE, f"{code}: {message}")


def failed_job(
    failure_reason: str, exit_message: str, log_tail: str, *, checkpoints_failed: bool
) -> JobFailure:
    """Return the failure behind a job whose status is Failed.

    Args:
        failure_reason: SageMaker's reason.
        exit_message: The job's own message.
        log_tail: Last lines of the log, for a job that left no message.
        checkpoints_failed: Whether the job's result names checkpoints that failed.
    """
    reason = "; ".join(text for text in (failure_reason, exit_message) if text)
    if checkpoints_failed:
        return JobFailure(FailureKind.CHECKPOINTS, reason)
    for text in (reason, "" if exit_message else log_tail):
        for kind, phrases in _PHRASES.items():
            if any(phrase in text for phrase in phrases):
                return JobFailure(kind, reason or "see the log")
    return JobFailure(FailureKind.JOB, reason or "it did not say why")
