"""Faults on demand: what a test wants to go wrong next, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_FOREVER = 1_000_000_000
_HOLD_SECONDS = 600.0  # clients try again earlier, and are held again


@dataclass(frozen=True)
class StartFailure:
    """The next job fails before any container starts."""

    reason: str
    after_seconds: float


@dataclass(frozen=True)
class SlowStart:
    """The next job's hosts take long to come up, unless ``over`` is set."""

    seconds: float
    over: threading.Event


@dataclass(frozen=True)
class Death:
    """A container of the next job is killed, so many seconds after it started."""

    after_seconds: float
    host: int


@dataclass(frozen=True)
class QuotaExceeded:
    """The next CreateProcessingJob is refused for lack of quota."""


@dataclass(frozen=True)
class Throttle:
    """The next call of an action is throttled."""

    action: str


@dataclass(frozen=True)
class Delay:
    """The next call of an action is answered late."""

    action: str
    seconds: float


@dataclass(frozen=True)
class WholeKeys:
    """The next job's manifest inputs are laid out by their whole keys.

    A training job was seen to do so (sagemaker-python-sdk 723); of Processing it is not known.
    """


@dataclass(frozen=True)
class LostResponse:
    """The next call of an action is carried out, but its answer does not arrive."""

    action: str


@dataclass(frozen=True)
class S3Refusal:
    """The next fitting S3 request is answered with an error, and not carried out."""

    status: int
    code: str
    message: str
    method: str
    key_contains: str

    def fits(self, method: str, key: str) -> bool:
        """Whether this refuses a request."""
        return method == self.method and self.key_contains in key


@dataclass(frozen=True)
class Unsigned:
    """The next S3 request without credentials is refused, as a private bucket does."""


@dataclass(frozen=True)
class PlainPuts:
    """The next S3 write is carried out whatever its conditions, as some stores do."""


@dataclass(frozen=True)
class CutRead:
    """The next fitting read of an S3 object breaks off in the middle."""

    key_contains: str

    def fits(self, method: str, key: str) -> bool:
        """Whether this cuts the answer to a request."""
        return method == "GET" and bool(key) and self.key_contains in key


@dataclass(frozen=True)
class Silence:
    """The next fitting S3 request is carried out, and nothing is heard until ``over`` is set."""

    seconds: float
    method: str
    key_contains: str
    over: threading.Event

    def fits(self, method: str, key: str) -> bool:
        """Whether this delays the answer to a request."""
        return method == self.method and self.key_contains in key


Fault = TypeVar("Fault")

_S3_ERRORS = {
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("SlowDown", "Please reduce your request rate."),
}


class Faults:
    """The plan of what goes wrong; every fault happens ``times`` times, then never again.

    The methods may be called at any time from any thread. A job takes its faults when it is
    created: a start failure, or else a slow start and all planned deaths once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[tuple[object, int]] = []

    def capacity_error(self, times: int = 1, after_seconds: float = 0.2) -> None:
        """The next jobs fail because no instance of their type is free."""
        reason = (
            "CapacityError: Unable to provision requested ML compute capacity. "
            "Please retry using a different ML instance type or after some time."
        )
        self._plan(StartFailure(reason, after_seconds), times)

    def image_pull(self, times: int = 1) -> None:
        """The next jobs fail because their image cannot be pulled."""
        reason = (
            "ClientError: Cannot pull the container image. Please check the image exists and "
            "the execution role has ecr permissions."
        )
        self._plan(StartFailure(reason, 0.2), times)

    def disk_full(self, times: int = 1) -> None:
        """The next jobs fail because image and inputs do not fit the volume."""
        reason = "ClientError: Failed to download data: No space left on device"
        self._plan(StartFailure(reason, 0.2), times)

    def slow_start(self, seconds: float, times: int = 1) -> threading.Event:
        """The next jobs' containers start so many seconds late, or once the event is set."""
        over = threading.Event()
        self._plan(SlowStart(seconds, over), times)
        return over

    def host_death(self, after_seconds: float, host: int = 0, times: int = 1) -> None:
        """A host of the next jobs, counted from 0, dies so many seconds after its start."""
        self._plan(Death(after_seconds, host), times)

    def out_of_memory(self, after_seconds: float = 0.5, host: int = 0, times: int = 1) -> None:
        """The kernel kills a container of the next jobs, which looks like exit code 137."""
        self.host_death(after_seconds, host, times)

    def quota_exceeded(self, times: int = 1) -> None:
        """The next CreateProcessingJob calls answer ResourceLimitExceeded."""
        self._plan(QuotaExceeded(), times)

    def throttle(self, action: str, times: int = 1) -> None:
        """The next calls of a SageMaker or Logs action answer ThrottlingException."""
        self._plan(Throttle(action), times)

    def delay(self, action: str, seconds: float, times: int = 1) -> None:
        """The next calls of a SageMaker or Logs action are answered so many seconds late."""
        self._plan(Delay(action, seconds), times)

    def whole_keys(self, times: int = 1) -> None:
        """The next jobs find what a manifest names at its whole key below the local path."""
        self._plan(WholeKeys(), times)

    def lose_response(self, action: str, times: int = 1) -> None:
        """The next calls of an action are carried out, but their connection breaks."""
        self._plan(LostResponse(action), times)

    def s3_errors(
        self, status: int, times: int = 1, method: str = "PUT", key_contains: str = ""
    ) -> None:
        """The next S3 requests whose key has that text answer 500 or 503."""
        self._plan(S3Refusal(status, *_S3_ERRORS[status], method, key_contains), times)

    def cut_reads(self, times: int = 1, key_contains: str = "") -> None:
        """The next reads of S3 objects whose key has that text lose their connection half-way."""
        self._plan(CutRead(key_contains), times)

    def silence(
        self, seconds: float, times: int = 1, method: str = "PUT", key_contains: str = ""
    ) -> threading.Event:
        """The next S3 requests whose key has that text are carried out and answered so late.

        Or once the event is set.
        """
        over = threading.Event()
        self._plan(Silence(seconds, method, key_contains, over), times)
        return over

    def hold_puts(self, key_contains: str) -> threading.Event:
        """Writers of such a key get no further, however often they try, until the event is set.

        A job writes checkpoints one after the other: none can land after the one that is held.
        """
        return self.silence(_HOLD_SECONDS, _FOREVER, "PUT", key_contains)

    def private_bucket(self) -> None:
        """S3 requests without credentials are refused from now on."""
        self._plan(Unsigned(), _FOREVER)

    def ignored_conditions(self) -> None:
        """If-None-Match and If-Match mean nothing to S3 from now on."""
        self._plan(PlainPuts(), _FOREVER)

    def failed_puts(self, key_contains: str, forever: bool = True) -> None:
        """Writes of keys with that text are forbidden, for good or once."""
        refusal = S3Refusal(403, "AccessDenied", "Access Denied", "PUT", key_contains)
        self._plan(refusal, _FOREVER if forever else 1)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._planned.clear()

    def take(
        self, kind: type[Fault], fits: Callable[[Fault], bool] = lambda fault: True
    ) -> Fault | None:
        """The first planned fault of a kind that fits; it then has one time less to happen."""
        with self._lock:
            for position, (fault, times) in enumerate(self._planned):
                if isinstance(fault, kind) and fits(fault):
                    self._spend(position, fault, times)
                    return fault
        return None

    def take_each(self, kind: type[Fault]) -> list[Fault]:
        """Every planned fault of a kind, each once."""
        with self._lock:
            found = [(n, fault, t) for n, (fault, t) in enumerate(self._planned)]
            chosen = [(n, fault, t) for n, fault, t in found if isinstance(fault, kind)]
            for position, fault, times in reversed(chosen):
                self._spend(position, fault, times)
        return [fault for _, fault, _ in chosen]

    def _plan(self, fault: object, times: int) -> None:
        with self._lock:
            self._planned.append((fault, times))

    def _spend(self, position: int, fault: object, times: int) -> None:
        if times > 1:
            self._planned[position] = (fault, times - 1)
        else:
            del self._planned[position]
