"""Disks that are full and directories that cannot be written to, as the operating system has it."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Root may write to a directory whatever its mode says, unless it gives that up.
OBEYS_MODES = ("setpriv", "--bounding-set", "-dac_override", "--") if os.geteuid() == 0 else ()


@dataclass
class SmallDisk:
    """A directory with little room: a file system of its own, where one may be mounted.

    Elsewhere no file of the processes at ``pid`` and below may become larger than so much.
    """

    directory: Path
    pid: int
    bytes: int
    is_mounted: bool = False

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Be so small, then as large as it was."""
        before = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        self.is_mounted = self._mount(f"size={self.bytes}")
        self.grow(0)
        try:
            yield
        finally:
            if self.is_mounted:
                subprocess.run(["umount", "--lazy", str(self.directory)], check=True)
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, before)

    def grow(self, more: int) -> None:
        """Have so much more room."""
        self.bytes += more
        if self.is_mounted:
            assert self._mount(f"remount,size={self.bytes}")
        else:
            _, most = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (self.bytes, most))

    def _mount(self, options: str) -> bool:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.directory)]
        try:
            return subprocess.run(mount, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Let nothing below a directory be written, made or removed by those who obey modes."""
    paths = [directory, *directory.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(modes[path] & ~0o222)
    try:
        yield
    finally:
        for path in paths:
            path.chmod(modes[path])
