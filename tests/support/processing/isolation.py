"""How close a container comes to a real one: with its own /opt/ml and process ids, or without.

Where the machine allows private namespaces (root on Linux), every host sees its own directory at
/opt/ml and its entry point is process 1. Elsewhere the entry point is a plain process, and texts
that begin with /opt/ml are made to point into the host's directory.
"""

from __future__ import annotations

import functools
import logging
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processing.staging import OPT_ML

_LOG = logging.getLogger(__name__)
# Should this process be killed, unshare dies with the thread that waits for it, and with unshare
# its child, which takes the namespace along.
_DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
# Both outputs become one inside, so that messages of unshare itself stay out of the log.
_MOUNT = f'exec 2>&1; mount --bind "$0" {OPT_ML} && exec "$@"'


@dataclass(frozen=True)
class Command:
    """Arguments and environment of a container's process."""

    arguments: list[str]
    environment: dict[str, str]


def isolated_command(
    root: Path, arguments: Sequence[str], environment: Mapping[str, str]
) -> Command:
    """Run with ``root`` mounted at /opt/ml, as process 1 of a process namespace."""
    return Command(
        [*_DIES_WITH_PARENT, *_UNSHARE, "sh", "-c", _MOUNT, str(root), *arguments],
        dict(environment),
    )


def plain_command(root: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
    """Run with /opt/ml at the beginning of every text replaced by ``root``."""

    def moved(text: str) -> str:
        inside = text == OPT_ML or text.startswith(f"{OPT_ML}/")
        return f"{root}{text[len(OPT_ML) :]}" if inside else text

    return Command(
        # By a shell, so that a missing program is an exit code and a line of the log here too.
        ["sh", "-c", 'exec 2>&1; exec "$@"', "sh", *map(moved, arguments)],
        {name: moved(text) for name, text in environment.items()},
    )


@functools.cache
def machine_isolates() -> bool:
    """Whether private namespaces work here; found out once, and logged."""
    found = _try_to_isolate()
    how = "have their own /opt/ml" if found else "run with paths below /opt/ml rewritten"
    _LOG.info("containers %s", how)
    return found


def _try_to_isolate() -> bool:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "here").touch()
        probe = isolated_command(Path(directory), ["test", "-e", f"{OPT_ML}/here"], {})
        try:
            Path(OPT_ML).mkdir(parents=True, exist_ok=True)
            done = subprocess.run(probe.arguments, capture_output=True, check=False)
        except OSError:
            return False
        return done.returncode == 0
