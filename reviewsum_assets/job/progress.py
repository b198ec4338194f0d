"""Progress and result of a job: files of each host on the lake, log lines, Pipes messages."""

from __future__ import annotations

import json
import logging
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    PipesContext,
    PipesMappingParamsLoader,
    PipesMessageWriter,
    PipesMessageWriterChannel,
    encode_param,
    open_dagster_pipes,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from reviewsum_assets.errors import LakeError, first_problem
from reviewsum_assets.job.spec import LOCAL_HOST, JobSpec
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import (
    hosts_prefix,
    message_key,
    pipes_context_key,
    progress_key,
)

EXIT_OK = 0
EXIT_FAILED = 3
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run it again to finish
_LOG_EVERY_SECONDS = 10.0
_PUBLISH_EVERY_SECONDS = 1.0
# Of several hosts, the largest value counts here, and the sum elsewhere.
_MAXIMA = ("seconds", "eta_seconds", "peak_memory_bytes")

_log = logging.getLogger("reviewsum.job")
_Report = TypeVar("_Report", bound=BaseModel)


class JobResult(BaseModel):
    """Result of a job; ``failed`` has the reason by checkpoint number."""

    model_config = ConfigDict(frozen=True)

    landed: tuple[int, ...]
    already_valid: tuple[int, ...]
    failed: dict[int, str]
    stopped: bool
    seconds: float
    budget_reached: str = ""  # a sentence about the limit and the pending checkpoints

    @property
    def exit_code(self) -> int:
        """0: all landed, or the budget was reached; 3: something failed; 75: a signal came."""
        if self.stopped:
            return EXIT_STOPPED
        return EXIT_FAILED if self.failed else EXIT_OK


class JobProgress(BaseModel):
    """A snapshot of a running job."""

    model_config = ConfigDict(frozen=True)

    checkpoints_done: int
    checkpoints: int
    products_done: float
    products: int
    chunks_done: int
    seconds: float
    products_per_hour: float
    eta_seconds: float | None
    peak_memory_bytes: int

    def __str__(self) -> str:
        eta = "unknown" if self.eta_seconds is None else f"{self.eta_seconds:.0f} s"
        return (
            f"{self.checkpoints_done}/{self.checkpoints} checkpoints, "
            f"{self.products_done:.0f}/{self.products} products, {self.chunks_done} chunks, "
            f"{self.products_per_hour:,.0f} products/h, ETA {eta}, "
            f"peak memory {self.peak_memory_bytes / 2**30:.1f} GiB"
        )


def read_result(lake: Lake, job_name: str) -> JobResult | None:
    """Read the joint result of a job's hosts; None if no host has left one.

    A damaged one is logged and left out: the checkpoints themselves show which have landed.
    """
    results = _of_hosts(lake, job_name, JobResult, "result.json")
    if not results:
        return None
    return JobResult(
        landed=tuple(sorted(n for result in results for n in result.landed)),
        already_valid=tuple(sorted(n for result in results for n in result.already_valid)),
        failed={n: why for result in results for n, why in result.failed.items()},
        stopped=any(result.stopped for result in results),
        seconds=max(result.seconds for result in results),
        budget_reached="; ".join(filter(None, (result.budget_reached for result in results))),
    )


def read_progress(lake: Lake, job_name: str) -> JobProgress | None:
    """Read the latest joint progress of a job's hosts; None if there is none."""
    hosts = _of_hosts(lake, job_name, JobProgress, "progress.json")
    if not hosts:
        return None
    joint: dict[str, Any] = {}
    for name in JobProgress.model_fields:
        values = [value for host in hosts if (value := getattr(host, name)) is not None]
        joint[name] = max(values, default=None) if name in _MAXIMA else sum(values)
    return JobProgress(**joint)


def _of_hosts(lake: Lake, job: str, kind: type[_Report], name: str) -> list[_Report]:
    """Read a file of each host that has a readable one."""
    listed = [item.key for item in lake.list(hosts_prefix(job))]
    keys = [key for key in listed if key.endswith(f"/{name}")]
    found: list[_Report] = []
    for key, content in zip(keys, lake.get_many(keys), strict=True):
        if content is None:
            continue  # removed meanwhile
        try:
            found.append(kind.model_validate_json(content))
        except ValidationError as error:
            _log.warning("%s cannot be read: %s", lake.uri_of(key), first_problem(error))
    return found


def death(exit_code: int | None) -> str:
    """Describe the end of a process without a report; negative codes are signals."""
    if exit_code is not None and exit_code < 0:
        hint = ", as the kernel does when memory runs out" if exit_code == -9 else ""
        return f"its process was killed by signal {-exit_code}{hint}"
    return f"its process ended with code {exit_code}"


@dataclass
class ProgressReporter:
    """Collects the reports of workers, and publishes and logs them from time to time.

    ``spec`` holds the checkpoints of this host only; ``say`` shows a line to people outside the
    run's page.
    """

    lake: Lake
    spec: JobSpec
    pipes: PipesContext | None = None
    host: str = LOCAL_HOST
    say: Callable[[str], None] = _log.info
    landed: set[int] = field(default_factory=set)
    chunks_done: int = 0
    peak_memory_bytes: int = 0
    _shares: dict[int, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)
    _logged: float = 0.0
    _published: float = 0.0

    def report(self, message: str, level: int = logging.INFO) -> None:
        """Show a message to people, here and in the run's page."""
        if level == logging.INFO:
            self.say(message)
        else:
            _log.log(level, message)
        if self.pipes is not None:
            self.pipes.log.log(level, message)

    def generated(self, number: int, chunks: int, share: float, memory: int) -> None:
        """Count ``chunks`` more chunks; ``share`` of checkpoint ``number`` is generated."""
        self.chunks_done += chunks
        self._shares[number] = share
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        self._publish(force=False)

    def checkpoint_landed(self, number: int, message: str) -> None:
        """Count a checkpoint whose manifest is written."""
        self.landed.add(number)
        self.report(message)
        self._publish(force=True)

    def snapshot(self) -> JobProgress:
        """Return the present progress."""
        sizes = {planned.number: planned.products for planned in self.spec.checkpoints}
        done = sum(
            size * (1.0 if number in self.landed else self._shares.get(number, 0.0))
            for number, size in sizes.items()
        )
        seconds = time.monotonic() - self._started
        rate = done / seconds if seconds else 0.0
        return JobProgress(
            checkpoints_done=len(self.landed),
            checkpoints=len(sizes),
            products_done=done,
            products=self.spec.products,
            chunks_done=self.chunks_done,
            seconds=seconds,
            products_per_hour=rate * 3600,
            eta_seconds=(self.spec.products - done) / rate if rate else None,
            peak_memory_bytes=self.peak_memory_bytes,
        )

    def _publish(self, *, force: bool) -> None:
        now = time.monotonic()
        if force or now - self._published >= _PUBLISH_EVERY_SECONDS:
            self._published = now
            content = self.snapshot().model_dump_json().encode()
            _put_if_possible(self.lake, progress_key(self.spec.name, self.host), content)
        if now - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = now
            self.say(str(self.snapshot()))  # the run shows the progress of all hosts together


def _put_if_possible(lake: Lake, key: str, content: bytes) -> bool:
    """Write an object for information only: work must not end because it cannot be written."""
    try:
        lake.put(key, content)
    except LakeError as error:
        _log.warning("not published: %s", error)
        return False
    return True


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process since its start."""
    # getrusage of a process begins with the peak of the process that it was forked from.
    with suppress(FileNotFoundError):
        status = Path("/proc/self/status").read_text()
        kibibytes = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert kibibytes is not None
        return int(kibibytes[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS, which counts in bytes


def open_pipes(lake: Lake, job: str) -> AbstractContextManager[PipesContext | None]:
    """Open Pipes to the run that started the job; None without a run or a readable context."""
    content = lake.get(pipes_context_key(job))
    if content is None:
        return nullcontext()
    try:
        context = json.loads(content)
    except ValueError as error:
        _log.warning("%s cannot be read: %s", lake.uri_of(pipes_context_key(job)), error)
        return nullcontext()
    return open_dagster_pipes(
        message_writer=_LakeMessages(lake, job),
        params_loader=PipesMappingParamsLoader(
            {
                DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"data": context}),
                DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({}),
            }
        ),
    )


class _LakeMessages(PipesMessageWriter["_LakeMessages"], PipesMessageWriterChannel):
    """Writes each message immediately, as an object of its own: there are few."""

    def __init__(self, lake: Lake, job: str) -> None:
        self._lake = lake
        self._job = job
        self._written = 0

    @contextmanager
    def open(self, params: Any) -> Iterator[_LakeMessages]:  # noqa: ARG002 - the place is known
        yield self

    def write_message(self, message: Any) -> None:
        key = message_key(self._job, self._written + 1)
        self._written += _put_if_possible(self._lake, key, json.dumps(message).encode())
