"""A PostgreSQL server of Debian's package, on a free port and in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

_START_SECONDS = 120.0
_STOP_SECONDS = 120.0


@contextmanager
def postgres_server(directory: Path) -> Iterator[str]:
    """Start a server with an empty database, stop it at the end; yields its URL.

    Args:
        directory: of its data; must not exist.

    Raises:
        RuntimeError: the package is not installed, or the server does not start.
    """
    directory.mkdir(parents=True)
    as_owner = _not_as_root(directory)
    data, port = directory / "data", free_port()
    binaries = _binaries()
    subprocess.run(
        [*as_owner, binaries / "initdb", "-D", data, "-U", "dagster", "-A", "trust", "-N"],
        check=True,
        capture_output=True,
        cwd=directory,
    )
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={directory}"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [*as_owner, binaries / "postgres", "-D", data, "-p", str(port), "-F", *options],
            stdout=log,
            stderr=log,
            cwd=directory,
        )
        try:
            _wait_until_ready(binaries, port, directory / "log")
            yield f"postgresql://dagster@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # ends sessions and stops; setpriv left no process
            server.wait(_STOP_SECONDS)


def _not_as_root(directory: Path) -> list[str]:
    """The server refuses to run as root: the package's own user takes its place."""
    if os.getuid() != 0:
        return []
    for path in (directory, *directory.parents):
        if path.stat().st_uid == 0 and {Path("/tmp"), Path("/dev/shm")} & set(path.parents):
            path.chmod(0o755)
    shutil.chown(directory, "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _binaries() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    if not found:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
    return found[-1]


def _wait_until_ready(binaries: Path, port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    command = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(command, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL does not start: {log.read_text()}")
        time.sleep(0.1)
