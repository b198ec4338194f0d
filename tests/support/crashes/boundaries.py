"""A process's part in a drill: it meets commit boundaries, and cuts the power at a new one.

A boundary is a call that makes an object of the lake appear, change or go. Its kind is the
object's key without what differs from run to run. At each kind the power is cut twice: before,
where what was staged lies on the disk already, and after.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore

KILLED, PROCESSES, SPARED = "killed", "processes", "spared"

# What one run names otherwise than the next, and files of which there are many alike.
_VARIABLE = (
    (r"reviewsum-[0-9a-f]+-[0-9a-f]+-\d+", "JOB"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "RUN"),
    (r"[0-9a-f]{12,}", "ID"),
    (r"\d+", "N"),
    (r"(models/ID[^/]*/)(?!ready\.json|converted\.json).*", r"\1FILE"),
)


def kind_of(key: str) -> str:
    """The kind of boundary at which this object is written."""
    for pattern, name in _VARIABLE:
        key = re.sub(pattern, name, key)
    return key


def take_part(drill: str) -> None:
    """Let every commit of this process be a boundary of the drill in this directory."""
    part = _Part(Path(drill))
    for name in ("put", "rename", "delete"):
        setattr(obstore, name, part.around(name, getattr(obstore, name)))
    # What is not written through the lake: a job's directory is laid out, then gets its name.
    sys.addaudithook(part.hear)


class _Part:
    def __init__(self, drill: Path) -> None:
        self._drill = drill
        self._root = os.environ["REVIEWSUM_LAKE"]
        (drill / PROCESSES / str(os.getpid())).touch()

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call with a boundary around it."""

        def bounded(store: Any, *places: Any, **options: Any) -> Any:
            key = places[1] if name == "rename" else places[0]
            self.meet("before", name, key)
            result = call(store, *places, **options)
            self.meet("after", name, key)
            return result

        return bounded

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """A boundary before Python itself renames something on the lake."""
        if event == "os.rename" and str(arguments[1]).startswith(f"{self._root}/"):
            self.meet("before", "rename", os.path.relpath(arguments[1], self._root))

    def meet(self, when: str, call: str, key: str) -> None:
        """Cut the power, if it was never cut here."""
        if key.startswith(".staging/") or (self._drill / SPARED).exists():
            return
        what = "delete" if call == "delete" else "write"
        mark = self._drill / KILLED / f"{when} {what} {kind_of(key)}".replace("/", "|")
        with contextlib.suppress(FileExistsError):
            mark.touch(exist_ok=False)
            self._cut_power()

    def _cut_power(self) -> None:
        me = os.getpid()
        others = {int(path.name) for path in (self._drill / PROCESSES).iterdir()} - {me}
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.kill(me, signal.SIGKILL)
