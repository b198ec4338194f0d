"""Faults on demand: the next things to go wrong, and how often."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

_FOREVER = 1_000_000_000
_HOLD_SECONDS = 600.0  # clients try again earlier, and are held again

Kind = Literal[
    "start failure",  # a job fails before any container starts
    "slow start",  # a job's hosts come up late, unless ``over`` is set
    "death",  # a container of a job is killed some seconds after its start
    "whole keys",  # a job's manifest inputs are laid out by their whole keys
    "quota exceeded",
    "throttle",
    "delay",  # a call is answered late
    "lost response",  # a call is carried out, but its answer does not arrive
    "S3 refusal",  # a request to S3 is answered with an error, and not carried out
    "unsigned",  # a request to S3 without credentials is refused, as a private bucket does
    "plain put",  # a write to S3 is carried out whatever its conditions, as in some stores
    "cut read",  # a read from S3 breaks off in the middle
    "silence",  # a request to S3 is carried out, and answered late, or once ``over`` is set
]


@dataclass
class Fault:
    """Something that goes wrong ``times`` times."""

    kind: Kind
    times: int = 1
    action: str = ""  # name of the API action, or S3 method; empty: any
    key: str = ""  # text in the key of the S3 object
    reason: str = ""
    seconds: float = 0.0
    host: int = 0
    status: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def fits(self, kind: Kind, action: str, key: str) -> bool:
        """Whether this happens to a request or job."""
        return self.kind == kind and self.action in ("", action) and self.key in key


class Faults:
    """The plan of what goes wrong; every fault happens ``times`` times, then never again.

    The methods may be called at any time from any thread. A job takes its faults when it is
    created: a start failure, or else a slow start and all planned deaths once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[Fault] = []

    def capacity_error(self, times: int = 1, after_seconds: float = 0.2) -> None:
        """The next jobs fail because no instance of their type is free."""
        reason = (
            "CapacityError: Unable to provision requested ML compute capacity. "
            "Please retry using a different ML instance type or after some time."
        )
        self._plan(Fault("start failure", times, reason=reason, seconds=after_seconds))

    def image_pull(self, times: int = 1) -> None:
        """The next jobs fail because their image cannot be pulled."""
        reason = (
            "ClientError: Cannot pull the container image. Please check the image exists and "
            "the execution role has ecr permissions."
        )
        self._plan(Fault("start failure", times, reason=reason, seconds=0.2))

    def disk_full(self, times: int = 1) -> None:
        """The next jobs fail because image and inputs do not fit the volume."""
        reason = "ClientError: Failed to download data: No space left on device"
        self._plan(Fault("start failure", times, reason=reason, seconds=0.2))

    def slow_start(self, seconds: float, times: int = 1) -> threading.Event:
        """The next jobs' containers start so many seconds late, or once the event is set."""
        return self._plan(Fault("slow start", times, seconds=seconds))

    def host_death(self, after_seconds: float, host: int = 0, times: int = 1) -> None:
        """A host of the next jobs, counted from 0, dies so many seconds after its start."""
        self._plan(Fault("death", times, seconds=after_seconds, host=host))

    def quota_exceeded(self, times: int = 1) -> None:
        """The next CreateProcessingJob calls answer ResourceLimitExceeded."""
        self._plan(Fault("quota exceeded", times))

    def throttle(self, action: str, times: int = 1) -> None:
        """The next calls of a SageMaker or Logs action answer ThrottlingException."""
        self._plan(Fault("throttle", times, action))

    def delay(self, action: str, seconds: float, times: int = 1) -> None:
        """The next calls of a SageMaker or Logs action are answered so many seconds late."""
        self._plan(Fault("delay", times, action, seconds=seconds))

    def whole_keys(self, times: int = 1) -> None:
        """The next jobs find the objects of a manifest at their whole keys below the local path.

        A training job was seen to do so (sagemaker-python-sdk 723); Processing is not known to.
        """
        self._plan(Fault("whole keys", times))

    def lose_response(self, action: str, times: int = 1) -> None:
        """The next calls of an action are carried out, but their connection breaks."""
        self._plan(Fault("lost response", times, action))

    def s3_errors(
        self, status: int, times: int = 1, method: str = "PUT", key_contains: str = ""
    ) -> None:
        """The next S3 requests whose key has that text answer 403, 500 or 503."""
        self._plan(Fault("S3 refusal", times, method, key_contains, status=status))

    def failed_puts(self, key_contains: str, forever: bool = True) -> None:
        """Writes of keys with that text are forbidden, for good or once."""
        self.s3_errors(403, _FOREVER if forever else 1, "PUT", key_contains)

    def cut_reads(self, times: int = 1, key_contains: str = "") -> None:
        """The next reads of S3 objects whose key has that text lose their connection half-way."""
        self._plan(Fault("cut read", times, "GET", key_contains))

    def silence(
        self, seconds: float, times: int = 1, method: str = "PUT", key_contains: str = ""
    ) -> threading.Event:
        """The next S3 requests whose key has that text are carried out and answered so late.

        Or once the event is set.
        """
        return self._plan(Fault("silence", times, method, key_contains, seconds=seconds))

    def hold_puts(self, key_contains: str) -> threading.Event:
        """Writers of such a key get no further, however often they try, until the event is set.

        A job writes checkpoints one after the other: none can land after the one that is held.
        """
        return self.silence(_HOLD_SECONDS, _FOREVER, "PUT", key_contains)

    def private_bucket(self) -> None:
        """S3 requests without credentials are refused from now on."""
        self._plan(Fault("unsigned", _FOREVER))

    def ignored_conditions(self) -> None:
        """If-None-Match and If-Match mean nothing to S3 from now on."""
        self._plan(Fault("plain put", _FOREVER))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._planned.clear()

    def take(self, kind: Kind, action: str = "", key: str = "") -> Fault | None:
        """The first planned fault that fits; it then has one time less to happen."""
        with self._lock:
            return next((f for f in self._planned if f.fits(kind, action, key) and _spend(f)), None)

    def take_each(self, kind: Kind) -> list[Fault]:
        """Every planned fault of a kind, each once."""
        with self._lock:
            return [f for f in self._planned if f.fits(kind, "", "") and _spend(f)]

    def _plan(self, fault: Fault) -> threading.Event:
        with self._lock:
            self._planned.append(fault)
        return fault.over


def _spend(fault: Fault) -> bool:
    """Whether a fault still happens; it then has one time less."""
    fault.times -= 1
    return fault.times >= 0
