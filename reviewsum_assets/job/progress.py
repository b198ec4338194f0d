"""How far a job is: log lines for people, Pipes messages for Dagster, a progress object for all.

None of it is the truth about what is done: that is in the manifests.
"""

from __future__ import annotations

import logging
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dagster_pipes import PipesContext
from pydantic import BaseModel, ConfigDict, ValidationError

from reviewsum_assets.errors import LakeError
from reviewsum_assets.job.hosts import LOCAL_HOST
from reviewsum_assets.job.job_objects import hosts_prefix, progress_key
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.lake import Lake

_LOG_EVERY_SECONDS = 10.0
_PUBLISH_EVERY_SECONDS = 1.0

_log = logging.getLogger("reviewsum.job")


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
