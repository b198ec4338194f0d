"""Whatever ends the orchestrator, no checkpoint is computed twice and none is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from reviewsum_assets.compute.launches import noted_jobs, waiting_runs
from reviewsum_assets.lake_state import verify_lake
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import texts, write_dump
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import ROLE, incomplete, lake_on, manifests
from tests.support.waiting import wait_until

# More of them by hand: a kill takes seconds.
KILLS = int(os.environ.get("REVIEWSUM_TEST_KILLS", "4"))
SETTINGS = {
    "REVIEWSUM_COMPUTE": "sagemaker",
    "REVIEWSUM_ROLE_ARN": ROLE,
    # The containers are processes of this environment, which has all packages and no GPU.
    "REVIEWSUM_PACKAGE_SOURCE": "image",
    "REVIEWSUM_DEVICE": "cpu",
    "REVIEWSUM_POLL_SECONDS": "0.3",
    "REVIEWSUM_MAX_LENGTH": "16",
    "REVIEWSUM_MIN_LENGTH": "4",
    "REVIEWSUM_WORKERS": "1",
    "REVIEWSUM_BATCH_SIZE": "2",
    "REVIEWSUM_CHECKPOINT_SIZE": "2",
}
PRODUCTS = 80
HALF = PRODUCTS // 2 // 2  # of the checkpoints


@dataclass
class Orchestrator:
    """``reviewsum run`` in a process of its own, and the lake it works on."""

    folder: Path
    model: Path
    lake: Lake

    def start(self) -> subprocess.Popen[bytes]:
        dump = self.folder / "dump.csv"
        if not dump.exists():
            write_dump(dump, texts(PRODUCTS))
        return subprocess.Popen(
            [
                str(Path(sys.executable).with_name("reviewsum")),
                *("run", "--dump", str(dump), "--model", str(self.model)),
            ],
            cwd=self.folder,
            env={**os.environ, **SETTINGS, "REVIEWSUM_LAKE": self.lake.uri},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[bytes] | None = None) -> None:
        process = process or self.start()
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err.decode()


@pytest.fixture
def orchestrator(processing: ProcessingEmulator, tmp_path: Path, pegasus: Path) -> Orchestrator:
    return Orchestrator(tmp_path, pegasus, lake_on(processing))


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
            time.sleep(chance.uniform(1.0, 12.0))
        else:  # and however slow it is, the last kill meets one
            wait_until(lambda: len(manifests(lake)) == HALF, "half of it to land", 300)
        before = manifests(lake)
        process.kill()
        process.communicate(timeout=60)
        after = manifests(lake)
        assert {key: after[key] for key in before} == before
    assert [job.status for job in processing.jobs] == ["InProgress"]
    held.set()
    before = manifests(lake)
    orchestrator.finish()
    after = manifests(lake)
    assert {key: after[key] for key in before} == before
    assert incomplete(lake) == []
    assert verify_lake(lake) == []
    # Its jobs were attached to, never started beside a live one: one job did all the work.
    assert [job.status for job in processing.jobs] == ["Completed"]


def test_a_kill_between_note_and_creation_leaves_one_job(
    processing: ProcessingEmulator, orchestrator: Orchestrator
) -> None:
    lake, starting = orchestrator.lake, processing.faults.slow_start(600)
    process = orchestrator.start()
    (noted,) = wait_until(lambda: noted_jobs(lake), "a job")
    process.kill()
    process.communicate(timeout=60)
    assert len(processing.jobs) <= 1
    process = orchestrator.start()
    # A job that ended unseen would leave its note to the next one that starts a job.
    wait_until(lambda: len(waiting_runs(lake, noted.spec.name)) == 2, "the next run to wait for it")
    starting.set()
    orchestrator.finish(process)
    assert len(processing.jobs) == 1
    assert incomplete(orchestrator.lake) == []
    assert orchestrator.lake.list(places.LIVE_JOBS) == []


def test_ctrl_c_stops_the_job_and_keeps_what_landed(
    processing: ProcessingEmulator, orchestrator: Orchestrator
) -> None:
    held = processing.faults.hold_puts(places.checkpoint_manifest(2))
    process = orchestrator.start()
    wait_until(lambda: len(manifests(orchestrator.lake)) == 2, "checkpoints to land")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    held.set()
    assert process.returncode == 130, err.decode()
    (job,) = processing.jobs
    assert job.status == "Stopped"
    before = manifests(orchestrator.lake)
    assert len(before) == 2
    orchestrator.finish()
    after = manifests(orchestrator.lake)
    assert {key: after[key] for key in before} == before
    assert [found.status for found in processing.jobs] == ["Stopped", "Completed"]
