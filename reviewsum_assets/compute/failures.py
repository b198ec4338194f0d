"""What can go wrong with a Processing job, by name: what it means and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from reviewsum_assets.errors import JobError


class FailureKind(str, Enum):
    """The failures that call for different deeds."""

    CAPACITY = "no capacity"
    QUOTA = "quota too small"
    THROTTLED = "throttled"
    ACCESS = "access denied"
    CREDENTIALS = "no valid credentials"
    REQUEST = "request refused"
    IMAGE = "image cannot be pulled"
    DISK_FULL = "disk full"
    OUT_OF_MEMORY = "out of memory"
    TIME_LIMIT = "time limit reached"
    BUDGET = "budget reached"
    STOPPED = "stopped"
    INPUT = "input cannot be read"
    CHECKPOINTS = "checkpoints failed"
    JOB = "the job failed"
    SERVICE = "the service failed"


_ADVICE: Mapping[FailureKind, str] = {
    FailureKind.CAPACITY: (
        "AWS has no such instance free now: wait, name fallback_instance_types, or use another "
        "region. What landed is kept."
    ),
    FailureKind.QUOTA: (
        "ask for more in the Service Quotas console of this region: Amazon SageMaker, '<instance "
        "type> for processing job usage', at least instance_count; it is 0 in a new account"
    ),
    FailureKind.THROTTLED: "too many requests to SageMaker in this account: run it again later",
    FailureKind.ACCESS: (
        "give the named action to the caller or to role_arn: the policies this needs lie in "
        "reviewsum_assets/compute/iam/"
    ),
    FailureKind.CREDENTIALS: (
        "log in to AWS again, or check the profile and AWS_* variables of this process"
    ),
    FailureKind.REQUEST: "correct the setting that is named",
    FailureKind.IMAGE: (
        "check image_uri and its region, and that role_arn may pull from ECR (ecr:BatchGetImage, "
        "ecr:GetDownloadUrlForLayer, ecr:GetAuthorizationToken)"
    ),
    FailureKind.DISK_FULL: (
        "image, model and reviews have to fit: use an instance type with a larger disk, or raise "
        "volume_gb for types without a disk of their own (not g4dn, g5, g6)"
    ),
    FailureKind.OUT_OF_MEMORY: (
        "lower workers or batch_tokens, or use an instance type with more memory"
    ),
    FailureKind.TIME_LIMIT: (
        "run it again to compute the rest, or raise max_runtime; what landed is kept"
    ),
    FailureKind.BUDGET: "run it again to go on with as much again, or raise the limit named",
    FailureKind.STOPPED: "somebody stopped it; run it again to compute the rest",
    FailureKind.INPUT: "check that the named object exists and that role_arn may read it",
    FailureKind.CHECKPOINTS: "the reasons are listed by checkpoint; mend them and run it again",
    FailureKind.JOB: "the end of the job's log says why",
    FailureKind.SERVICE: "run it again: it attaches to the job if there is one",
}
# Trying again may help with these, without anybody doing anything.
_PASSING = frozenset({FailureKind.CAPACITY})


@dataclass(frozen=True)
class JobFailure:
    """Why a job failed. ``reason`` is what was observed, in the words of whoever said it."""

    kind: FailureKind
    reason: str

    @property
    def advice(self) -> str:
        """What to do next."""
        return _ADVICE[self.kind]

    @property
    def is_certain(self) -> bool:
        """Whether a refused creation has created nothing; after an error of the service it may."""
        return self.kind is not FailureKind.SERVICE

    @property
    def is_passing(self) -> bool:
        """Whether another attempt, later, may succeed."""
        return self.kind in _PASSING

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.reason} ({self.advice})"


class LaunchError(JobError):
    """A job could not be started."""

    def __init__(self, failure: JobFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


# What AWS says, in part, in the order in which it is looked for.
_CREATE_CODES: Mapping[str, FailureKind] = {
    "ResourceLimitExceeded": FailureKind.QUOTA,
    "ThrottlingException": FailureKind.THROTTLED,
    "TooManyRequestsException": FailureKind.THROTTLED,
    "AccessDeniedException": FailureKind.ACCESS,
    "AccessDenied": FailureKind.ACCESS,
    "ExpiredToken": FailureKind.CREDENTIALS,
    "ExpiredTokenException": FailureKind.CREDENTIALS,
    "InvalidClientTokenId": FailureKind.CREDENTIALS,
    "NoCredentialsError": FailureKind.CREDENTIALS,
    "PartialCredentialsError": FailureKind.CREDENTIALS,
    "SignatureDoesNotMatch": FailureKind.CREDENTIALS,
    "UnrecognizedClientException": FailureKind.CREDENTIALS,
    "ValidationException": FailureKind.REQUEST,
    "InvalidParameterValue": FailureKind.REQUEST,
}
_PHRASES: tuple[tuple[str, FailureKind], ...] = (
    ("CapacityError", FailureKind.CAPACITY),
    ("InsufficientCapacity", FailureKind.CAPACITY),
    ("Unable to provision requested ML compute capacity", FailureKind.CAPACITY),
    ("ResourceLimitExceeded", FailureKind.QUOTA),
    ("No space left on device", FailureKind.DISK_FULL),
    ("Errno 28", FailureKind.DISK_FULL),
    ("Cannot pull", FailureKind.IMAGE),
    ("CannotPullContainer", FailureKind.IMAGE),
    ("ImagePull", FailureKind.IMAGE),
    ("MaxRuntimeExceeded", FailureKind.TIME_LIMIT),
    ("CUDA out of memory", FailureKind.OUT_OF_MEMORY),
    ("use an instance type with more memory", FailureKind.OUT_OF_MEMORY),
    ("OutOfMemory", FailureKind.OUT_OF_MEMORY),
    ("exit code: 137", FailureKind.OUT_OF_MEMORY),
    ("Failed to download data", FailureKind.INPUT),
    ("Data download failed", FailureKind.INPUT),
    ("No S3 objects found", FailureKind.INPUT),
    ("InternalServerError", FailureKind.SERVICE),
)


def refused_call(code: str, message: str) -> JobFailure:
    """The failure behind an error answer of the SageMaker API."""
    kind = _CREATE_CODES.get(code, FailureKind.SERVICE)
    # Some accounts are told of exhausted capacity by the call itself.
    if "CapacityError" in message or code.startswith("InsufficientCapacity"):
        kind = FailureKind.CAPACITY
    return JobFailure(kind, f"{code}: {message}")


def failed_job(
    failure_reason: str, exit_message: str, log_tail: str, *, checkpoints_failed: bool
) -> JobFailure:
    """The failure behind a job whose status is Failed.

    Args:
        failure_reason: what SageMaker says.
        exit_message: what the job says of itself.
        log_tail: the last lines of its log, for a job that left no message.
        checkpoints_failed: whether the job's result names checkpoints that failed.
    """
    reason = "; ".join(text for text in (failure_reason, exit_message) if text)
    if checkpoints_failed:
        return JobFailure(FailureKind.CHECKPOINTS, reason)
    for text in (reason, "" if exit_message else log_tail):
        for phrase, kind in _PHRASES:
            if phrase in text:
                return JobFailure(kind, reason or "see the log")
    return JobFailure(FailureKind.JOB, reason or "it did not say why")
