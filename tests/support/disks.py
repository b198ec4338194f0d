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
    """A directory with a file system of its own that has so little room."""

    directory: Path
    bytes: int

    @contextmanager
    def mounted(self) -> Iterator[bool]:
        """Mount it, and take it away again; False where nothing may be mounted."""
        if not self._mount(f"size={self.bytes}"):
            yield False
            return
        try:
            yield True
        finally:
            subprocess.run(["umount", "--lazy", str(self.directory)], check=True)

    def grow(self, more: int) -> None:
        """Have so much more room."""
        self.bytes += more
        assert self._mount(f"remount,size={self.bytes}")

    def _mount(self, options: str) -> bool:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.directory)]
        try:
            return subprocess.run(mount, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let this process write no file beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


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
