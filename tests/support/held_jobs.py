"""Jobs that are held half-way, so that something is left to do however fast the machine is."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reviewsum_assets.compute.local import LocalCompute, LocalJob
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.waiting import wait_until

_JOB_SECONDS = 300.0


@dataclass(frozen=True)
class HeldJob:
    """A stopped job of this machine; ``group`` is the number of its process and its group."""

    group: int

    @classmethod
    def of(cls, job: LocalJob) -> HeldJob:
        """The processes of a job."""
        return cls(int((job.directory / "pid").read_text()))

    def kill(self) -> None:
        """End it as a machine's failure would, at the point where it is held."""
        with suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)

    def go_on(self) -> None:
        """Hold it no longer."""
        os.killpg(self.group, signal.SIGCONT)

    @contextmanager
    def going_on_once_told_to_end(self) -> Iterator[None]:
        """Hold it no longer as soon as it is sent SIGTERM, which is then the first thing it sees.

        That is to be sent by what is done in this context; who sends it will not wait for long.
        """

        def go_on_then() -> None:
            wait_until(self._is_told_to_end, "the job to be told to end", _JOB_SECONDS)
            self.go_on()

        with ThreadPoolExecutor(1) as pool:
            going_on = pool.submit(go_on_then)
            yield
            going_on.result()

    def _is_told_to_end(self) -> bool:
        # A stopped process keeps what it is sent; the kernel shows it as a mask, bit 0 is signal 1.
        status = Path(f"/proc/{self.group}/status").read_text()
        (pending,) = re.findall(r"^ShdPnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return bool(int(pending, 16) >> (signal.SIGTERM - 1) & 1)


@contextmanager
def withheld(lake: Lake, key: str) -> Iterator[None]:
    """Let whoever reads an object of a lake on a disk wait for ever: its job cannot end.

    Who waits by then waits on, also when the object is back.
    """
    assert lake.directory is not None
    path = lake.directory / key
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    try:
        yield
    finally:
        path.unlink()
        path.write_bytes(content)


def kill_jobs(lake: Lake) -> None:
    """End what is left: a job outlives all else, held or not."""
    for job in LocalCompute(lake).live_jobs():
        if isinstance(job, LocalJob):
            HeldJob.of(job).kill()


def hold_job(lake: Lake, landed: int) -> HeldJob:
    """Wait for a job on this machine, and hold it when so many more checkpoints have landed."""
    before = len(lake.list(places.CHECKPOINT_MANIFESTS))
    (job,) = wait_until(LocalCompute(lake).live_jobs, "a job", _JOB_SECONDS)
    wait_until(
        lambda: len(lake.list(places.CHECKPOINT_MANIFESTS)) >= before + landed,
        "checkpoints to land",
        _JOB_SECONDS,
    )
    assert isinstance(job, LocalJob)
    held = HeldJob.of(job)
    os.killpg(held.group, signal.SIGSTOP)
    return held
