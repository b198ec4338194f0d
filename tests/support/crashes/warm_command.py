"""The console script, over and over, in processes that have most of their imports done.

Each call is a process of its own, forked from one that has imported what takes seconds. So a drill
of many calls takes a minute instead of ten.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_REPOSITORY = Path(__file__).parents[3]
_HOOKS = Path(__file__).with_name("hooks")


@dataclass(frozen=True)
class Ended:
    """How a call ended; negative codes are signals."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class WarmProcess:
    """The process that all calls are forked from."""

    _process: subprocess.Popen[str]

    @classmethod
    @contextmanager
    def started(cls, *wrapper: str) -> Iterator[WarmProcess]:
        """Start it, behind the words of ``wrapper`` if there are any, and end it."""
        with subprocess.Popen(
            [*wrapper, sys.executable, "-m", "tests.support.crashes.warm_process"],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(_HOOKS), str(_REPOSITORY), *sys.path]),
                "OPENBLAS_NUM_THREADS": "1",  # its threads do not survive a fork
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield cls(process)
            process.kill()  # it has nothing to finish, and much to let go of

    def call(self, folder: Path, environment: Mapping[str, str], arguments: list[str]) -> Ended:
        """Call ``reviewsum`` in a folder and wait for its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory() as scratch:
            out, err = Path(scratch, "out"), Path(scratch, "err")
            call = {
                "arguments": arguments,
                "folder": str(folder),
                "environment": dict(environment),
                "out": str(out),
                "err": str(err),
            }
            self._process.stdin.write(json.dumps(call) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return Ended(code, out.read_text(), err.read_text())


@dataclass(frozen=True)
class WarmCommand:
    """``reviewsum`` in a folder, with settings of its own."""

    process: WarmProcess
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str) -> Ended:
        """Call it and wait for its end."""
        return self.process.call(self.folder, self.environment, list(arguments))
