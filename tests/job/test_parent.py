from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from reviewsum_assets.job import parent, summarizer
from reviewsum_assets.job.devices import WorkerDevice
from reviewsum_assets.job.models.loaded import WorkerOptions
from reviewsum_assets.job.parent import run_job
from reviewsum_assets.job.progress import JobResult, ProgressReporter
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.worker import Idle, worker_main
from reviewsum_assets.storage.lake import Lake
from tests.support.jobs import spec_for, texts

DEADLY = "deadly"


def run_reading_ahead(lake: Lake, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> JobResult:
    """A job whose one worker reads a lease while it generates another, as on a GPU."""
    monkeypatch.setattr(
        parent, "worker_devices", lambda *_: [WorkerDevice(None, threads=1, leases=2)]
    )
    return run_job(lake, spec, ProgressReporter(lake, spec), lambda: False, "local")


def worker_that_dies_of_a_text(connection: Connection, options: WorkerOptions) -> None:
    """A worker that is killed as soon as it generates a product with ``DEADLY`` in its text."""
    generate = summarizer.Summarizer.generate

    def deadly(self: Any, works: Any) -> Any:
        if any(DEADLY in (p.text or "") for work in works for p in work.source.products):
            os.kill(os.getpid(), signal.SIGKILL)
        return generate(self, works)

    summarizer.Summarizer.generate = deadly  # type: ignore[method-assign]
    worker_main(connection, options)


def worker_that_dies_while_it_still_writes(connection: Connection, options: WorkerOptions) -> None:
    """The same, and earlier summaries are written so slowly that they are lost with it."""
    put = Lake.put

    def slow(self: Lake, key: str, data: bytes) -> None:
        time.sleep(1)
        put(self, key, data)

    Lake.put = slow  # type: ignore[method-assign]
    worker_that_dies_of_a_text(connection, options)


@pytest.mark.parametrize(
    ("product", "worker", "failed"),
    [("P000", worker_that_dies_of_a_text, 1), ("P004", worker_that_dies_while_it_still_writes, 2)],
)
def test_a_deadly_checkpoint_takes_none_that_is_read_ahead_or_written(
    lake: Lake,
    pegasus: Path,
    monkeypatch: pytest.MonkeyPatch,
    product: str,
    worker: Callable[..., None],
    failed: int,
) -> None:
    _, spec = spec_for(lake, pegasus, {**texts(12), product: f"a {DEADLY} text about a product"})
    monkeypatch.setattr(parent, "worker_main", worker)
    result = run_reading_ahead(lake, spec, monkeypatch)
    assert list(result.failed) == [failed]
    assert "signal 9" in result.failed[failed]
    assert {*result.landed} == {1, 2, 3} - {failed}


def idle_worker_that_dies(connection: Connection, options: WorkerOptions) -> None:
    """A worker that asks for work and ends before the work can come."""
    connection.send(Idle())
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_for_a_worker_that_has_just_died_is_dealt_again(
    lake: Lake, pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spec = spec_for(lake, pegasus, texts(20))
    deal = parent._Crew._deal

    def deal_to_the_dead(self: Any) -> None:
        for member in self._members:
            if member.idle:
                member.process.join()
        deal(self)

    monkeypatch.setattr(parent, "worker_main", idle_worker_that_dies)
    monkeypatch.setattr(parent._Crew, "_deal", deal_to_the_dead)
    result = run_job(lake, spec, ProgressReporter(lake, spec), lambda: False, "local")
    assert {*result.failed} == {1, 2, 3, 4, 5}
    assert all("no worker can work" in reason for reason in result.failed.values())
