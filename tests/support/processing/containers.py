"""One host of a job: the container's entry point as a process with its directory at /opt/ml."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.processing.isolation import isolated_command, plain_command
from tests.support.processing.logs import LogPump
from tests.support.processing.records import JobRecord

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def lay_out_host(directory: Path, record: JobRecord, host: str) -> Path:
    """Make a host's /opt/ml with the two files that describe the host to a container."""
    root = directory / "ml"
    for name in ("config", "output", "processing"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (directory / "home").mkdir(exist_ok=True)
    resources = {
        "current_host": host,
        "hosts": record.hosts,
        "network_interface_name": "eth0",
    }
    job = {"ProcessingJobArn": record.arn, **record.request}
    (root / "config" / "resourceconfig.json").write_text(json.dumps(resources))
    (root / "config" / "processingjobconfig.json").write_text(json.dumps(job))
    return root


def provide_python(directory: Path, python: str) -> None:
    """Put an interpreter under the names that an image would have it by."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3"):
        # Not a link: through one, the interpreter would not find its virtual environment.
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n')
        script.chmod(0o755)


class Container:
    """A started entry point. It has ended when ``exit_code`` is not None."""

    def __init__(self, process: subprocess.Popen[bytes], pump: LogPump, isolated: bool) -> None:
        self._process = process
        self._pump = pump
        self._isolated = isolated
        self._killed = False
        self.started = time.monotonic()

    @property
    def exit_code(self) -> int | None:
        """The entry point's exit code, 128 + n if signal n ended it; None while it runs."""
        code = self._process.poll()
        if code and self._killed:
            # unshare does not pass SIGKILL on: it then ends with 1.
            return 128 + signal.SIGKILL
        return code if code is None or code >= 0 else 128 - code

    def terminate(self) -> None:
        """Ask the entry point, and no other process of the container, to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all processes of the container at once."""
        if self.exit_code is None:
            self._killed = True
            self._signal(signal.SIGKILL)

    def finish(self) -> None:
        """After the end: leave no process behind, and wait for the last of the logs."""
        self._process.wait()
        # A namespace ends with its process 1; a plain entry point may leave children.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._pump.join(timeout=10)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if number is signal.SIGKILL and not self._isolated:
                os.killpg(self._process.pid, number)
            else:
                os.kill(self._entry_point(), number)

    def _entry_point(self) -> int:
        if not self._isolated:
            return self._process.pid
        # The one child of unshare is process 1 of the namespace; it may not be there yet.
        while self._process.poll() is None:
            pid = self._process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children:
                return int(children[0])
            time.sleep(0.005)
        raise ProcessLookupError


class ContainerStarter:
    """Starts containers of one emulator: its interpreter, its endpoint, its kind of isolation."""

    def __init__(
        self,
        programs: Path,
        environment: Mapping[str, str],
        logs: Any,
        *,
        isolated: bool,
        python: str = sys.executable,
    ) -> None:
        provide_python(programs, python)
        self._programs = programs
        self._environment = environment
        self._logs = logs
        self._isolated = isolated

    def start(self, root: Path, record: JobRecord, host: str) -> Container:
        """Start the request's entry point on a host that is laid out and staged."""
        app = record.request["AppSpecification"]
        wrap = isolated_command if self._isolated else plain_command
        arguments = [*app["ContainerEntrypoint"], *app.get("ContainerArguments", [])]
        command = wrap(root, arguments, self._container_environment(root, record))
        process = subprocess.Popen(
            command.arguments,
            env=command.environment,
            cwd=root.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        stream = f"{record.name}/{host}-{time.time_ns() // 1_000_000}"
        assert process.stdout is not None
        pump = LogPump(self._logs, stream, process.stdout)
        pump.start()
        return Container(process, pump, self._isolated)

    def _container_environment(self, root: Path, record: JobRecord) -> dict[str, str]:
        # Nothing of this process's environment: a real container would not have it either.
        return {
            **record.request.get("Environment", {}),
            **self._environment,
            "PATH": f"{self._programs}:{_SYSTEM_PATH}",
            "HOME": str(root.parent / "home"),
        }
