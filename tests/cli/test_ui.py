from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from reviewsum_assets.assets import dagster_home
from reviewsum_assets.cli.app import app
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.storage.lake import Lake
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


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``reviewsum ui`` goes on as, for which lake, without doing so."""
    found: list[str] = []
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REVIEWSUM_LAKE", str(tmp_path / "of-the-environment"))
    monkeypatch.setattr(
        dagster_home,
        "become_ui",
        lambda home, host, port: found.append(f"{host}:{port} {os.environ['REVIEWSUM_LAKE']}"),
    )
    return found


def refusal(*arguments: str) -> str:
    error = CliRunner().invoke(app, ["ui", *arguments]).exception
    assert isinstance(error, SettingsError)
    return str(error)


def test_a_port_that_is_taken_is_refused_before_anything_is_started(
    started: list[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal("--port", str(port))
    assert f"cannot listen on 127.0.0.1, port {port} (Address already in use)" in said
    assert "no.such.host" in refusal("--host", "no.such.host.invalid")
    assert (started, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("REVIEWSUM_TOP_K", "x", "top_k"),
        ("REVIEWSUM_REFRESH_CRON", "nonsense", "refresh_cron 'nonsense' is not a cron schedule"),
        ("REVIEWSUM_ALERT_EMAIL_TO", "me", "alert_email_to needs alert_email_from and smtp_host"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_started(
    started: list[str], monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert said.lower() in refusal("--port", str(free_port())).lower()
    assert started == []


def test_the_ui_is_of_the_lake_that_is_named(started: list[str], lake: Lake) -> None:
    port = free_port()
    result = CliRunner().invoke(app, ["ui", "--lake", lake.uri, "--port", str(port)])
    assert result.exit_code == 0, result.output
    assert started == [f"127.0.0.1:{port} {lake.uri}"]
