"""The life of one Processing job, from its acceptance to its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.support.processing.containers import Container, ContainerStarter, lay_out_host
from tests.support.processing.faults import Faults
from tests.support.processing.records import JobRecord, Status, publish
from tests.support.processing.staging import (
    JobFailedError,
    download_inputs,
    make_outputs,
    upload_outputs,
)

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.05
_LONGEST_TEXT = 1024  # of a failure reason, and of an exit message

Ending = tuple[Status, str | None]  # and the reason of a failure
_DEFAULT_MAX_RUNTIME_SECONDS = 86_400


@dataclass(frozen=True)
class Surroundings:
    """The parts that all jobs of one emulator share."""

    work: Path
    s3: Any
    starter: ContainerStarter
    grace_seconds: float


class JobRun(threading.Thread):
    """Runs one job: the thread that starts, watches and signals its containers."""

    def __init__(self, record: JobRecord, faults: Faults, surroundings: Surroundings) -> None:
        super().__init__(name=f"job {record.name}", daemon=True)
        self._record = record
        self._start_failure = faults.take("start failure")
        is_started = self._start_failure is None
        self._slow_start = faults.take("slow start") if is_started else None
        self._deaths = faults.take_each("death") if is_started else []
        self._whole_keys = is_started and faults.take("whole keys") is not None
        self._here = surroundings
        self._directory = surroundings.work / record.name
        self._stopping = threading.Event()
        self._changing = threading.Lock()
        self._roots: list[Path] = []
        self.containers: list[Container] = []

    def request_stop(self) -> bool:
        """Begin to stop, as StopProcessingJob does; False if the job is not in progress."""
        with self._changing:
            if self._record.status != "InProgress":
                return False
            self._change(status="Stopping")
        self._stopping.set()
        return True

    def abandon(self) -> None:
        """Kill everything and return when the job is over."""
        self._stopping.set()
        while self.is_alive():
            for container in list(self.containers):
                container.kill()
            self.join(_TICK_SECONDS)

    def run(self) -> None:
        """Live the whole life; whatever goes wrong here, the job ends."""
        try:
            ending: Ending = self._live()
        except JobFailedError as error:
            ending = "Failed", str(error)
        except ClientError as error:
            ending = "Failed", f"ClientError: {error}"
        except Exception as error:
            _LOG.exception("job %s: the emulator failed", self._record.name)
            ending = "Failed", f"InternalServerError: {error!r}"
        status, reason = ending
        with self._changing:
            shown = None if reason is None else reason[:_LONGEST_TEXT]
            self._change(ended=time.time(), failure_reason=shown, status=status)

    def _live(self) -> Ending:
        if not self._wait_for_hosts():
            return "Stopped", None
        request, hosts = self._record.request, self._record.hosts
        self._roots = [lay_out_host(self._directory / host, self._record, host) for host in hosts]
        for root in self._roots:
            download_inputs(self._here.s3, request, root, whole_keys=self._whole_keys)
            make_outputs(request, root)
        try:
            self._start_containers()
            self._watch()
        finally:
            for container in self.containers:
                container.kill()
                container.finish()
        self._record.exit_codes = [container.exit_code or 0 for container in self.containers]
        # Whether a job that is stopped or has failed still uploads its outputs is not documented.
        for root in self._roots:
            upload_outputs(self._here.s3, request, root)
        self._record.exit_message = exit_message(self._roots)
        # The documentation says that a job is stopped when its maximum runtime is over, and users
        # report that it then is Stopped without a reason, as if a user had stopped it.
        if self._stopping.is_set():
            return "Stopped", None
        failed = [code for code in self._record.exit_codes if code]
        if not failed:
            return "Completed", None
        raise JobFailedError(
            f"AlgorithmError: See job logs for more information, exit code: {failed[0]}"
        )

    def _wait_for_hosts(self) -> bool:
        """Whether hosts come up before the job is stopped."""
        failure, slow, begun = self._start_failure, self._slow_start, time.monotonic()
        if failure is not None:
            if self._stopping.wait(failure.seconds):
                return False
            raise JobFailedError(failure.reason)
        while slow and not slow.over.is_set() and time.monotonic() - begun < slow.seconds:
            if self._stopping.wait(_TICK_SECONDS):
                return False
        return not self._stopping.is_set()

    def _start_containers(self) -> None:
        self._change(started=time.time())
        for host, root in zip(self._record.hosts, self._roots, strict=True):
            self.containers.append(self._here.starter.start(root, self._record, host))

    def _watch(self) -> None:
        # The fate of the other hosts when one dies is not documented. Here they end on their own
        # first, so a job must not wait for a host that is gone.
        killing = None
        while any(container.exit_code is None for container in self.containers):
            now = time.monotonic()
            self._let_die(now)
            if self._overdue(now) and not self._stopping.is_set():
                self.request_stop()
            if self._stopping.is_set() and killing is None:
                killing = now + self._here.grace_seconds
                self._signal_all(Container.terminate)
            if killing is not None and now >= killing:
                self._signal_all(Container.kill)
            time.sleep(_TICK_SECONDS)

    def _let_die(self, now: float) -> None:
        for death in self._deaths:
            container = self.containers[death.host]
            if now - container.started >= death.seconds:
                container.kill()

    def _overdue(self, now: float) -> bool:
        condition = self._record.request.get("StoppingCondition", {})
        seconds = condition.get("MaxRuntimeInSeconds", _DEFAULT_MAX_RUNTIME_SECONDS)
        return now - self.containers[0].started > float(seconds)

    def _signal_all(self, signal: Any) -> None:
        for container in self.containers:
            if container.exit_code is None:
                signal(container)

    def _change(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self._record, name, value)
        publish(self._record)
        shown = ", ".join(f"{name}={value}" for name, value in changes.items())
        _LOG.info("job %s: %s", self._record.name, shown)


def exit_message(roots: Sequence[Path]) -> str | None:
    """The message files of all containers, joined, then cut to 1 KB."""
    files = [root / "output" / "message" for root in roots]
    joined = b"".join(file.read_bytes() for file in files if file.is_file())
    try:
        joined.decode()
    except UnicodeDecodeError:
        raise JobFailedError("ClientError: The exit message is not UTF-8 encoded") from None
    return joined[:_LONGEST_TEXT].decode("utf-8", "ignore") or None
