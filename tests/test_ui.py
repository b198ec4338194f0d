from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port

_START_SECONDS = 240.0


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[tuple[psutil.Process, int]]:
    """``reviewsum ui`` as it is started by hand, but for its port; process and port."""
    port = free_port()
    script = str(Path(sys.executable).with_name("reviewsum"))
    with (tmp_path / "ui.log").open("wb") as log:
        process = psutil.Popen(
            [script, "ui", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "DAGSTER_HOME": str(tmp_path / "home")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, port
        finally:
            for one in [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


def listening(process: psutil.Process) -> dict[int, str]:
    """The address of each port that a process, or one that it started, listens on."""
    found = {}
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            for connection in one.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.port] = connection.laddr.ip
    return found


def test_the_ui_is_reached_from_this_machine_only(ui: tuple[psutil.Process, int]) -> None:
    process, port = ui
    deadline = time.monotonic() + _START_SECONDS
    while port not in (found := listening(process)):
        assert process.is_running() and time.monotonic() < deadline, "it did not start"
        time.sleep(0.2)
    assert set(found.values()) == {"127.0.0.1"}
