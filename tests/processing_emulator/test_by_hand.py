"""The emulator as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import boto3
import pytest

from tests.processing_emulator.workbench import printed, processes_with, request
from tests.support.processing.isolation import machine_isolates
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The emulator as it is started by hand, on a free port."""
    command = [sys.executable, "-m", "tests.support.processing", "--port", "0", "--work"]
    with subprocess.Popen(
        [*command, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_it_tells_how_to_reach_it_and_what_happens(
    emulator: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert emulator.stdout is not None
    use(emulator, monkeypatch)
    boto3.client("s3").put_object(Bucket="reviews", Key="code/main.py", Body=b"")
    boto3.client("sagemaker").create_processing_job(**request())
    told = read_until(emulator.stdout, "ended=")
    assert re.search(r"job job-1: status=InProgress\n.*job job-1: started=.*=Completed", told, re.S)
    emulator.send_signal(signal.SIGINT)
    assert emulator.wait(timeout=120) == 0


def test_containers_in_namespaces_die_with_it(
    emulator: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert emulator.stdout is not None
    use(emulator, monkeypatch)
    script = b"import time; print('ready', flush=True); time.sleep(600)"
    boto3.client("s3").put_object(Bucket="reviews", Key="code/main.py", Body=script)
    boto3.client("sagemaker").create_processing_job(**request())
    # Only then has it been told to die with its parent, and not only been started.
    wait_until(lambda: printed(boto3.client("logs")) == ["ready"], "the script to run")
    home = str(tmp_path / "jobs" / "job-1" / "algo-1" / "home")
    assert processes_with(home)
    emulator.kill()
    emulator.wait()
    if machine_isolates():
        wait_until(lambda: not processes_with(home), "the container to die")
    else:
        for pid in processes_with(home):
            os.kill(pid, signal.SIGKILL)


def use(emulator: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that a started emulator prints."""
    assert emulator.stdout is not None
    for name, value in re.findall(r"export (\w+)=(\S+)", read_until(emulator.stdout, "bucket")):
        monkeypatch.setenv(name, value)
    assert os.environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")


def read_until(output: IO[str], text: str) -> str:
    """Read lines up to the first that has the text."""
    lines = []
    for line in output:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} is not in {lines}")
