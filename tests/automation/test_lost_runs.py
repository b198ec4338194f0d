from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run

from reviewsum_assets.assets.dagster_home import (
    fail_lost_runs,
    hold_run_lock,
    last_run_of_this_process,
    locking_executor,
    run_tags,
    sends_own_alert,
)
from reviewsum_assets.compute.local import is_locked
from reviewsum_assets.definitions import defs
from reviewsum_assets.settings import AutomationSettings
from tests.support.pipeline import SmallPipeline
from tests.support.sensors import Sensor, put_dump, put_run
from tests.support.waiting import wait_until

STARTED, FAILED = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
NEW_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
# Its process sends the alert of its failure.
ALERTED = AutomationSettings(slack_channel="#reviews")
Process = subprocess.Popen[str]
Start = Callable[..., Process]


@dg.op
def endless() -> None:
    """Wait for the end of its process."""
    time.sleep(600)


@dg.job(executor_def=locking_executor)
def endless_job() -> None:
    """A job that only the death of its process ends."""
    endless()


def execute_endless_job(home: str, run_id: str) -> None:
    """What the process of a launched run does."""
    with dg.DagsterInstance.local_temp(home) as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        execute_run(dg.reconstructable(endless_job), run, instance)


def hold(home: str, run_id: str) -> None:
    """What the process of a command does: it takes the lock, says so, and works."""
    with dg.DagsterInstance.local_temp(home) as instance:
        hold_run_lock(instance, run_id)
        sys.stdout.write("held\n")
        sys.stdout.flush()
        time.sleep(600)


@pytest.fixture
def start(small: SmallPipeline) -> Iterator[Start]:
    """Starts processes that call a function of this module, and kills what is left of them."""
    started = []

    def call(function: str, run_id: str, *wrapper: str) -> Process:
        code = f"import {__name__} as m, sys; m.{function}(*sys.argv[1:])"
        arguments = [sys.executable, "-c", code, small.instance.root_directory, run_id]
        process = subprocess.Popen(
            [*wrapper, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield call
    for process in started:
        kill(process)


def kill(process: Process) -> None:
    """End a process and its children at once, as the loss of power does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def run_of(small: SmallPipeline, run_id: str) -> dg.DagsterRun:
    run = small.instance.get_run_by_id(run_id)
    assert run is not None
    return run


def status(small: SmallPipeline, run_id: str) -> dg.DagsterRunStatus:
    return run_of(small, run_id).status


def lock_of(small: SmallPipeline, run_id: str) -> Path:
    return Path(small.instance.root_directory, "run_locks", run_id)


def lost(small: SmallPipeline, job: str) -> str:
    """A run that seems to go on, and whose process is gone; its id."""
    run_id = put_run(small, job, STARTED)
    lock = lock_of(small, run_id)
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    return run_id


def require_failure_after_kill(small: SmallPipeline, process: Process, run_id: str) -> None:
    fail_lost_runs(small.instance)
    assert status(small, run_id) is STARTED
    kill(process)
    wait_until(lambda: not is_locked(lock_of(small, run_id)), "the kernel to release the lock")
    fail_lost_runs(small.instance)
    assert status(small, run_id) is FAILED


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*NEW_PID_NAMESPACE, "true"], check=False).returncode != 0,
    reason="only root can make PID namespaces here",
)
def test_a_run_is_lost_once_its_process_is_gone_in_any_pid_namespace(
    small: SmallPipeline, start: Start
) -> None:
    run_id = put_run(small, "merge", STARTED)
    process = start("hold", run_id, *NEW_PID_NAMESPACE)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    require_failure_after_kill(small, process, run_id)
    assert not lock_of(small, run_id).exists()


def test_a_launched_run_without_its_process_fails(small: SmallPipeline, start: Start) -> None:
    run_id = small.instance.create_run_for_job(endless_job).run_id
    process = start("execute_endless_job", run_id)
    wait_until(lock_of(small, run_id).exists, "the lock of the run")
    require_failure_after_kill(small, process, run_id)


def test_every_job_can_be_lost_and_noticed() -> None:
    jobs = defs.get_repository_def().get_all_jobs()
    assert {job.executor_def for job in jobs} == {locking_executor}


def test_a_run_that_has_ended_or_has_no_lock_in_this_home_is_left_alone(
    small: SmallPipeline,
) -> None:
    ended = lost(small, "merge")
    small.instance.report_run_canceled(run_of(small, ended))
    elsewhere = put_run(small, "merge", STARTED, run_tags(ALERTED))
    fail_lost_runs(small.instance)
    assert status(small, elsewhere) is STARTED
    assert status(small, ended) is dg.DagsterRunStatus.CANCELED
    assert not lock_of(small, ended).exists()


def test_a_home_that_takes_no_locks_stops_no_run(
    small: SmallPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    Path(small.instance.root_directory, "run_locks").touch()
    hold_run_lock(small.instance, "some-run")
    assert "run some-run cannot be locked" in caplog.text
    fail_lost_runs(small.instance)


def test_a_copy_of_a_run_of_the_command_line_is_none(small: SmallPipeline) -> None:
    tags = run_tags(ALERTED)
    run_id = small.instance.create_run_for_job(defs.resolve_job_def("merge"), tags=tags).run_id
    copy = put_run(small, "merge", STARTED, tags)
    assert not sends_own_alert(run_of(small, copy)), "only the daemon alerts"
    last = last_run_of_this_process(small.instance)
    assert last is not None
    assert last.run_id == run_id


def test_no_sensor_waits_for_a_lost_run(dumps_sensor: Sensor, small: SmallPipeline) -> None:
    put_dump(small.pipeline.lake, 4)
    dumps_sensor.skipped()
    lost(small, "ingest")
    assert dumps_sensor.launch(dumps_sensor.requested(), "ingest").success
