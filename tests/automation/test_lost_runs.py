from __future__ import annotations

import os
import socket
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from reviewsum_assets.automation.lost_runs import fail_lost_runs
from reviewsum_assets.dagster_home import (
    fail_if_gone,
    last_run_of_this_process,
    run_tags,
    tells_of_its_failure,
)
from reviewsum_assets.definitions import defs
from tests.support.pipeline import SmallPipeline
from tests.support.sensors import Sensor, put_dump, put_run

STARTED, FAILED = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def launched(
    small: SmallPipeline, job: str, pid: int, launcher: str = ".dagster/grpc_info", **tags: str
) -> str:
    """A run that seems to go on in a process; its id."""
    run_id = put_run(small, job, STARTED, {launcher: "{}", **tags})
    run = small.instance.get_run_by_id(run_id)
    told = f"Started process for run (pid: {pid})."
    small.instance.report_engine_event(told, run, EngineEventData.in_process(pid))
    return run_id


def command_tags(pid: int, host: str) -> dict[str, str]:
    return {**run_tags(tells_of_failure=True), "reviewsum/pid": str(pid), "reviewsum/host": host}


def of_command_line(small: SmallPipeline, pid: int, host: str) -> str:
    """A run of ``reviewsum run`` that seems to go on; its id."""
    run = small.instance.create_run_for_job(
        defs.resolve_job_def("merge"), status=STARTED, tags=command_tags(pid, host)
    )
    return run.run_id


def status(small: SmallPipeline, run_id: str) -> dg.DagsterRunStatus:
    run = small.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_launched_run_without_its_process_fails(small: SmallPipeline, gone: int) -> None:
    run_id = launched(small, "merge", gone)
    fail_lost_runs(small.instance)
    assert status(small, run_id) is FAILED


def test_a_run_of_the_command_line_without_its_process_fails(
    small: SmallPipeline, gone: int
) -> None:
    run_id = of_command_line(small, gone, socket.gethostname())
    fail_lost_runs(small.instance)
    assert status(small, run_id) is FAILED


def test_a_run_made_from_one_of_the_command_line_has_a_process_of_its_own(
    small: SmallPipeline, gone: int
) -> None:
    copied = command_tags(gone, socket.gethostname())
    run_id = launched(small, "merge", os.getpid(), **copied)
    fail_lost_runs(small.instance)
    run = small.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is STARTED
    assert not tells_of_its_failure(run), "nobody but the daemon tells of it"


def test_a_command_does_not_take_a_run_made_from_its_own_for_the_last(small: SmallPipeline) -> None:
    run_id = of_command_line(small, os.getpid(), socket.gethostname())
    launched(small, "merge", os.getpid(), **command_tags(os.getpid(), socket.gethostname()))
    last = last_run_of_this_process(small.instance)
    assert last is not None
    assert last.run_id == run_id


def test_a_process_that_ended_unnoticed_by_its_parent_is_gone(small: SmallPipeline) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    run_id = launched(small, "merge", process.pid)
    fail_lost_runs(small.instance)
    assert status(small, run_id) is FAILED
    process.wait()


def test_what_goes_on_here_or_may_elsewhere_is_left_alone(small: SmallPipeline, gone: int) -> None:
    runs = [
        launched(small, "merge", os.getpid()),
        launched(small, "merge", gone, launcher="k8s/job"),
        of_command_line(small, os.getpid(), socket.gethostname()),
        of_command_line(small, gone, "another.host"),
    ]
    fail_lost_runs(small.instance)
    assert [status(small, run_id) for run_id in runs] == [STARTED] * len(runs)


def test_a_younger_process_of_the_same_id_is_not_the_one_that_is_gone(small: SmallPipeline) -> None:
    run_id = launched(small, "merge", os.getpid())
    fail_if_gone(small.instance, run_id, os.getpid(), since=0.0)
    assert status(small, run_id) is FAILED


def test_no_sensor_waits_for_a_lost_run(
    dumps_sensor: Sensor, checkpoints_sensor: Sensor, small: SmallPipeline, gone: int
) -> None:
    put_dump(small.pipeline.lake, 4)
    dumps_sensor.skipped()
    launched(small, "ingest", gone)
    assert dumps_sensor.launch(dumps_sensor.requested()).success
    launched(small, "summarize", gone)
    assert checkpoints_sensor.requested().job_name == "summarize"
