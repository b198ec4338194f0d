"""How a job ended, as each of its hosts leaves it on the lake."""

from __future__ import annotations

import json
import logging
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    PipesContext,
    PipesContextLoader,
    PipesMappingParamsLoader,
    PipesMessageWriter,
    PipesMessageWriterChannel,
    encode_param,
    open_dagster_pipes,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from reviewsum_assets.errors import LakeError, first_problem
from reviewsum_assets.job.spec import (
    LOCAL_HOST,
    JobSpec,
    hosts_prefix,
    message_key,
    pipes_context_key,
    progress_key,
)
from reviewsum_assets.storage.lake import Lake

EXIT_OK = 0
EXIT_FAILED = 3
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run it again to finish

_log = logging.getLogger("reviewsum.job")


class JobResult(BaseModel):
    """How a job ended; ``failed`` says why, by checkpoint number."""

    model_config = ConfigDict(frozen=True)

    landed: tuple[int, ...]
    already_valid: tuple[int, ...]
    failed: dict[int, str]
    stopped: bool
    seconds: float
    budget_reached: str = ""  # what was reached and what is left, a sentence

    @property
    def exit_code(self) -> int:
        """0: all landed, or the budget was reached; 3: something failed; 75: a signal came."""
        if self.stopped:
            return EXIT_STOPPED
        return EXIT_FAILED if self.failed else EXIT_OK


def read_result(lake: Lake, job_name: str) -> JobResult | None:
    """The result of a job, that of all its hosts together; None if no host ended by itself.

    One that cannot be read is logged and left out: what landed, the checkpoints tell.
    """
    listed = [item.key for item in lake.list(hosts_prefix(job_name))]
    keys = [key for key in listed if key.endswith("/result.json")]
    results: list[JobResult] = []
    for key, content in zip(keys, lake.get_many(keys), strict=True):
        try:
            results.append(JobResult.model_validate_json(content or b""))
        except ValidationError as error:
            _log.warning("%s cannot be read: %s", lake.uri_of(key), first_problem(error))
    if not results:
        return None
    return JobResult(
        landed=tuple(sorted(n for result in results for n in result.landed)),
        already_valid=tuple(sorted(n for result in results for n in result.already_valid)),
        failed={n: why for result in results for n, why in result.failed.items()},
        stopped=any(result.stopped for result in results),
        seconds=max(result.seconds for result in results),
        budget_reached="; ".join(
            result.budget_reached for result in results if result.budget_reached
        ),
    )


def death(exit_code: int | None) -> str:
    """How a process ended that said nothing: negative codes are signals, as in subprocess."""
    if exit_code is not None and exit_code < 0:
        hint = ", as the kernel does when memory runs out" if exit_code == -9 else ""
        return f"its process was killed by signal {-exit_code}{hint}"
    return f"its process ended with code {exit_code}"


_LOG_EVERY_SECONDS = 10.0
_PUBLISH_EVERY_SECONDS = 1.0


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


def read_progress(lake: Lake, job_name: str) -> JobProgress | None:
    """A job's latest progress, that of all its hosts together; None if none can be read."""
    keys = [item.key for item in lake.list(hosts_prefix(job_name))]
    found: list[JobProgress] = []
    for content in lake.get_many([key for key in keys if key.endswith("/progress.json")]):
        try:
            found.append(JobProgress.model_validate_json(content or b""))
        except ValidationError:
            continue  # removed, or written by another version: progress decides nothing
    return _together(found) if found else None


def _together(hosts: list[JobProgress]) -> JobProgress:
    etas = [host.eta_seconds for host in hosts if host.eta_seconds is not None]
    return JobProgress(
        checkpoints_done=sum(host.checkpoints_done for host in hosts),
        checkpoints=sum(host.checkpoints for host in hosts),
        products_done=sum(host.products_done for host in hosts),
        products=sum(host.products for host in hosts),
        chunks_done=sum(host.chunks_done for host in hosts),
        seconds=max(host.seconds for host in hosts),
        products_per_hour=sum(host.products_per_hour for host in hosts),
        eta_seconds=max(etas) if etas else None,
        peak_memory_bytes=max(host.peak_memory_bytes for host in hosts),
    )


@dataclass
class ProgressReporter:
    """Collects what workers report and passes it on, not too often.

    ``spec`` holds the checkpoints of this host only; ``say`` tells people beside the run's page.
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

    def info(self, message: str) -> None:
        """Tell people something, here and in the run's page."""
        self.say(message)
        if self.pipes is not None:
            self.pipes.log.info(message)

    def warning(self, message: str) -> None:
        """Tell people what makes the job slower or dearer than they expect."""
        _log.warning(message)
        if self.pipes is not None:
            self.pipes.log.warning(message)

    def error(self, message: str) -> None:
        """Tell people that something went wrong."""
        _log.error(message)
        if self.pipes is not None:
            self.pipes.log.error(message)

    def generated(self, number: int, chunks: int, share: float, memory: int) -> None:
        """Count ``chunks`` more chunks; ``share`` of checkpoint ``number`` is generated."""
        self.chunks_done += chunks
        self._shares[number] = share
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        self._tell(force=False)

    def checkpoint_landed(self, number: int, message: str) -> None:
        """Count a checkpoint whose manifest is written."""
        self.landed.add(number)
        self.info(message)
        self._tell(force=True)

    def snapshot(self) -> JobProgress:
        """How far the job is now."""
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

    def _tell(self, *, force: bool) -> None:
        now = time.monotonic()
        if force or now - self._published >= _PUBLISH_EVERY_SECONDS:
            self._published = now
            self._publish()
        if now - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = now
            # The run tells this by itself, of all hosts together.
            self.say(str(self.snapshot()))

    def _publish(self) -> None:
        try:
            content = self.snapshot().model_dump_json().encode()
            self.lake.put(progress_key(self.spec.name, self.host), content)
        except LakeError as error:
            # Progress is a courtesy: work that goes on must not end for it.
            _log.warning("progress not published: %s", error)


def peak_memory_bytes() -> int:
    """Peak resident memory of this process since it was started."""
    try:
        # What getrusage says of a process begins with the peak of the one it was forked from.
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:  # macOS, which counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kibibytes = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert kibibytes is not None
    return int(kibibytes[1]) * 1024


def open_pipes(lake: Lake, job: str) -> AbstractContextManager[PipesContext | None]:
    """Pipes to the run that started the job; None if no run did, or what it left is damaged."""
    content = lake.get(pipes_context_key(job))
    if content is None:
        return nullcontext()
    try:
        context = json.loads(content)
    except ValueError as error:
        _log.warning("%s cannot be read: %s", lake.uri_of(pipes_context_key(job)), error)
        return nullcontext()
    nothing = encode_param({})
    return open_dagster_pipes(
        context_loader=_LoadedContext(context),
        message_writer=_LakeMessageWriter(lake, job),
        params_loader=PipesMappingParamsLoader(
            {DAGSTER_PIPES_CONTEXT_ENV_VAR: nothing, DAGSTER_PIPES_MESSAGES_ENV_VAR: nothing}
        ),
    )


class _LoadedContext(PipesContextLoader):
    """A context that has been read already."""

    def __init__(self, data: Any) -> None:
        self._data = data

    @contextmanager
    def load_context(self, params: Any) -> Iterator[Any]:  # noqa: ARG002 - the place is known
        yield self._data


class _LakeMessageWriter(PipesMessageWriter["_LakeChannel"]):
    """Writes each message as an object of its own, at once: they are few."""

    def __init__(self, lake: Lake, job: str) -> None:
        self._channel = _LakeChannel(lake, job)

    @contextmanager
    def open(self, params: Any) -> Iterator[_LakeChannel]:  # noqa: ARG002 - the place is known
        yield self._channel


class _LakeChannel(PipesMessageWriterChannel):
    def __init__(self, lake: Lake, job: str) -> None:
        self._lake = lake
        self._job = job
        self._written = 0

    def write_message(self, message: Any) -> None:
        try:
            key = message_key(self._job, self._written + 1)
            self._lake.put(key, json.dumps(message).encode())
        except LakeError as error:
            # Messages are a courtesy: work that goes on must not end for one.
            _log.warning("message not sent: %s", error)
        else:
            self._written += 1
