"""Whatever ends the orchestrator, no checkpoint is computed twice and none is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from reviewsum_assets.compute.launches import noted_jobs, waiting_runs
from reviewsum_assets.lake_state import verify_lake
from reviewsum_assets.storage import places
from tests.compute.conftest import Orchestrator
from tests.support.pipeline import texts, write_dump
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import SETTINGS, incomplete, lake_on, manifests
from tests.support.waiting import wait_until

# More of them by hand: a kill takes seconds.
KILLS = int(os.environ.get("REVIEWSUM_TEST_KILLS", "3"))
PRODUCTS = 80
HALF = PRODUCTS // 2 // 2  # of the checkpoints


@pytest.fixture
def orchestrator(processing: ProcessingEmulator, tmp_path: Path, pegasus: Path) -> Orchestrator:
    settings = {name: str(value) for name, value in SETTINGS.items()} | {"batch_size": "2"}
    dump = write_dump(tmp_path / "dump.csv", texts(PRODUCTS))
    return Orchestrator(tmp_path, pegasus, lake_on(processing), dump, settings)


def test_an_orchestrator_killed_at_any_moment_pays_for_nothing_twice(
    processing: ProcessingEmulator, orchestrator: Orchestrator
) -> None:
    chance = random.Random(0)
    lake = orchestrator.lake
    # However fast the machine is, the job outlives every kill.
    held = processing.faults.hold_puts(places.checkpoint_manifest(HALF))
    for kill in range(KILLS):
        process = orchestrator.start()
        if kill < KILLS - 1:
            time.sleep(chance.uniform(1.0, 10.0))
        else:  # and however slow it is, the last kill meets one
            wait_until(lambda: len(manifests(lake)) == HALF, "half of it to land", 300)
        before = manifests(lake)
        process.kill()
        process.wait(timeout=60)
        assert before.items() <= manifests(lake).items()
    assert [job.status for job in processing.jobs] == ["InProgress"]
    held.set()
    before = manifests(lake)
    orchestrator.finish()
    assert before.items() <= manifests(lake).items()
    assert incomplete(lake) == []
    assert verify_lake(lake) == []
    # Its jobs were attached to, never started beside a live one: one job did all the work.
    assert [job.status for job in processing.jobs] == ["Completed"]


def test_a_kill_between_note_and_creation_leaves_one_job(
    processing: ProcessingEmulator, orchestrator: Orchestrator
) -> None:
    lake, starting = orchestrator.lake, processing.faults.slow_start(600)
    process = orchestrator.start()
    ((noted, _),) = wait_until(lambda: noted_jobs(lake), "a job")
    process.kill()
    process.wait(timeout=60)
    assert len(processing.jobs) <= 1
    process = orchestrator.start()
    # A job that ended unseen would leave its note to the next one that starts a job.
    wait_until(lambda: len(waiting_runs(lake, noted.name)) == 2, "the next run to wait for it")
    starting.set()
    orchestrator.finish(process)
    assert len(processing.jobs) == 1
    assert incomplete(lake) == []
    assert lake.list(places.LIVE_JOBS) == []


def test_ctrl_c_stops_the_job_and_keeps_what_landed(
    processing: ProcessingEmulator, orchestrator: Orchestrator
) -> None:
    held = processing.faults.hold_puts(places.checkpoint_manifest(2))
    process = orchestrator.start()
    wait_until(lambda: len(manifests(orchestrator.lake)) == 2, "checkpoints to land")
    process.send_signal(signal.SIGINT)
    orchestrator.finish(process, code=130)
    held.set()
    assert [job.status for job in processing.jobs] == ["Stopped"]
    before = manifests(orchestrator.lake)
    assert len(before) == 2
    orchestrator.finish()
    assert before.items() <= manifests(orchestrator.lake).items()
    assert [job.status for job in processing.jobs] == ["Stopped", "Completed"]
