"""A drill: where it keeps count of the power cuts that have been, and of who takes part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.crashes.boundaries import KILLED, PROCESSES, SPARED


@dataclass(frozen=True)
class CrashDrill:
    """A directory that all processes of a drill share."""

    directory: Path

    @classmethod
    def begin(cls, directory: Path) -> CrashDrill:
        """Make the directory of a new drill."""
        for name in (KILLED, PROCESSES):
            (directory / name).mkdir(parents=True)
        return cls(directory)

    @property
    def environment(self) -> dict[str, str]:
        """What lets a process take part."""
        return {"CRASH_DRILL": str(self.directory)}

    @property
    def cuts(self) -> list[str]:
        """Where the power has been cut, in this order."""
        marks = sorted(
            (self.directory / KILLED).iterdir(), key=lambda mark: mark.stat().st_mtime_ns
        )
        return [mark.name.replace("|", "/") for mark in marks]

    def forget_processes(self) -> None:
        """Before the next call: its process ids may be those of processes that are gone."""
        for path in (self.directory / PROCESSES).iterdir():
            path.unlink()

    def spare(self) -> None:
        """Cut the power no more."""
        (self.directory / SPARED).touch()
