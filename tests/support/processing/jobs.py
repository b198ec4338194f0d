"""The life of one Processing job, from its acceptance to its end."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.support.processing.containers import Container, ContainerStarter, lay_out_host
from tests.support.processing.endings import (
    Ending,
    JobFailedError,
    ending_of,
    exit_message,
    failure,
)
from tests.support.processing.faults import Death, Faults, SlowStart, StartFailure, WholeKeys
from tests.support.processing.moto_jobs import publish
from tests.support.processing.records import JobRecord
from tests.support.processing.staging import Outputs, StagingError, download_inputs

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.05
_UPLOAD_SECONDS = 0.5
_DEFAULT_MAX_RUNTIME_SECONDS = 86_400


@dataclass(frozen=True)
class JobFaults:
    """What goes wrong in one job."""

    start_failure: StartFailure | None
    slow_start: SlowStart | None
    deaths: list[Death]
    whole_keys: bool = False

    @classmethod
    def take(cls, faults: Faults) -> JobFaults:
        """Take the faults of the job that is being created."""
        failure = faults.take(StartFailure)
        if failure is not None:
            return cls(failure, None, [])
        whole_keys = faults.take(WholeKeys) is not None
        return cls(None, faults.take(SlowStart), faults.take_each(Death), whole_keys)


@dataclass(frozen=True)
class Surroundings:
    """What all jobs of one emulator share."""

    work: Path
    s3: Any
    starter: ContainerStarter
    grace_seconds: float


class JobRun(threading.Thread):
    """Runs one job: the thread that starts, watches and signals its containers."""

    def __init__(self, record: JobRecord, faults: JobFaults, surroundings: Surroundings) -> None:
        super().__init__(name=f"job {record.name}", daemon=True)
        self._record = record
        self._faults = faults
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
            ending = self._live()
        except (JobFailedError, StagingError) as error:
            ending = failure(str(error))
        except ClientError as error:
            ending = failure(f"ClientError: {error}")
        except Exception as error:
            _LOG.exception("job %s: the emulator failed", self._record.name)
            ending = failure(f"InternalServerError: {error!r}")
        self._end(ending)

    def _live(self) -> Ending:
        if not self._wait_for_hosts():
            return Ending("Stopped")
        outputs = self._lay_out()
        try:
            self._start_containers()
            self._watch(outputs)
        finally:
            for container in self.containers:
                container.kill()
                container.finish()
        self._record.exit_codes = [container.exit_code or 0 for container in self.containers]
        # Whether a job that is stopped or has failed still uploads its outputs is not documented.
        for output in outputs:
            output.upload_all()
        self._record.exit_message = exit_message(self._roots)
        return ending_of(self._record.exit_codes, stopped=self._stopping.is_set())

    def _wait_for_hosts(self) -> bool:
        """Whether hosts come up before somebody stops the job."""
        planned = self._faults.start_failure
        if planned is None:
            return self._wait_for_slow_ones()
        if self._stopping.wait(planned.after_seconds):
            return False
        raise JobFailedError(planned.reason)

    def _wait_for_slow_ones(self) -> bool:
        slow, begun = self._faults.slow_start, time.monotonic()
        while slow and not slow.over.is_set() and time.monotonic() - begun < slow.seconds:
            if self._stopping.wait(_TICK_SECONDS):
                return False
        return not self._stopping.is_set()

    def _lay_out(self) -> list[Outputs]:
        request, hosts = self._record.request, self._record.hosts
        self._roots = [lay_out_host(self._directory / host, self._record, host) for host in hosts]
        for number, root in enumerate(self._roots):
            download_inputs(
                self._here.s3,
                request,
                root,
                number,
                len(hosts),
                whole_keys=self._faults.whole_keys,
            )
        return [Outputs(self._here.s3, request, root) for root in self._roots]

    def _start_containers(self) -> None:
        self._change(started=time.time())
        for host, root in zip(self._record.hosts, self._roots, strict=True):
            self.containers.append(self._here.starter.start(root, self._record, host))

    def _watch(self, outputs: list[Outputs]) -> None:
        # What the service does with the other hosts when one dies is not documented. Here they
        # end by themselves first, so a job must not wait for a host that is gone.
        killing = None
        uploading = time.monotonic()
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
            if now >= uploading:
                for output in outputs:
                    output.upload_continuous()
                uploading = now + _UPLOAD_SECONDS
            time.sleep(_TICK_SECONDS)

    def _let_die(self, now: float) -> None:
        for death in self._faults.deaths:
            container = self.containers[death.host]
            if now - container.started >= death.after_seconds:
                container.kill()

    def _overdue(self, now: float) -> bool:
        condition = self._record.request.get("StoppingCondition", {})
        seconds = condition.get("MaxRuntimeInSeconds", _DEFAULT_MAX_RUNTIME_SECONDS)
        return now - self.containers[0].started > float(seconds)

    def _signal_all(self, signal: Any) -> None:
        for container in self.containers:
            if container.exit_code is None:
                signal(container)

    def _end(self, ending: Ending) -> None:
        with self._changing:
            self._change(
                ended=time.time(),
                failure_reason=ending.failure_reason,
                status=ending.status,
            )

    def _change(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self._record, name, value)
        publish(self._record)
        told = ", ".join(f"{name}={value}" for name, value in changes.items())
        _LOG.info("job %s: %s", self._record.name, told)
