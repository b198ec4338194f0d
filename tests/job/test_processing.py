from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.job import processing, summarizer
from reviewsum_assets.job.dealer import BudgetKeeper, Dealer
from reviewsum_assets.job.devices import WorkerDevice
from reviewsum_assets.job.models.loaded import WorkerOptions
from reviewsum_assets.job.processing import run_job
from reviewsum_assets.job.progress import JobResult, ProgressReporter
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.worker import worker_main
from reviewsum_assets.storage.lake import Lake
from tests.support.jobs import incomplete, spec_for, texts

DEADLY = "deadly"


def run_reading_ahead(lake: Lake, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> JobResult:
    """A job whose one worker reads a lease while it generates another, as on a GPU."""
    monkeypatch.setattr(
        processing, "worker_devices", lambda *_: [WorkerDevice(None, threads=1, leases=2)]
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


def test_a_worker_that_reads_ahead_lands_everything(
    lake: Lake, pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spec = spec_for(lake, pegasus, texts(20))
    result = run_reading_ahead(lake, spec, monkeypatch)
    assert (result.landed, result.failed) == ((1, 2, 3, 4, 5), {})
    assert incomplete(lake) == []


def test_a_deadly_checkpoint_takes_none_of_those_that_were_read_ahead(
    lake: Lake, pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = {**texts(20), "P000": f"a {DEADLY} text about a product"}
    _, spec = spec_for(lake, pegasus, products)
    monkeypatch.setattr(processing, "worker_main", worker_that_dies_of_a_text)
    result = run_reading_ahead(lake, spec, monkeypatch)
    assert {number: "signal 9" in why for number, why in result.failed.items()} == {1: True}
    assert result.landed == (2, 3, 4, 5)


def worker_that_dies_while_it_still_writes(connection: Connection, options: WorkerOptions) -> None:
    """The same, and what was generated before is written so slowly that it dies with it."""
    put = Lake.put

    def slow(self: Lake, key: str, data: bytes) -> None:
        time.sleep(1)
        put(self, key, data)

    Lake.put = slow  # type: ignore[method-assign]
    worker_that_dies_of_a_text(connection, options)


def test_a_checkpoint_that_was_being_written_is_not_blamed_for_the_next_one(
    lake: Lake, pegasus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = {**texts(12), "P004": f"a {DEADLY} text about a product"}
    _, spec = spec_for(lake, pegasus, products)
    monkeypatch.setattr(processing, "worker_main", worker_that_dies_while_it_still_writes)
    result = run_reading_ahead(lake, spec, monkeypatch)
    assert list(result.failed) == [2]
    assert result.landed == (1, 3)


def test_leases_become_smaller_towards_the_end(lake: Lake, pegasus: Path) -> None:
    _, spec = spec_for(lake, pegasus, texts(64))
    pending = list(require_plan(lake).checkpoints)
    keeper = BudgetKeeper(spec)
    dealer = Dealer(pending, ProgressReporter(lake, spec), keeper)
    dealer.pool_products = 24
    sizes = []
    while dealer.has_work:
        sizes.append(len(dealer.next_lease((), workers=2)))
    assert sum(sizes) == len(pending) == 16
    assert sizes[0] > sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
