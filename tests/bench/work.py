"""What tests have measured: functions that a process of its own can import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path


def add(first: int, second: int) -> int:
    return first + second


def doubled(number: int) -> int:
    return 2 * number


def fill(megabytes: int) -> int:
    return len(b"x" * (megabytes * 1_000_000))


def hold(megabytes: int) -> None:
    content = b"x" * (megabytes * 1_000_000)
    time.sleep(60)
    del content


def fill_in_a_child(megabytes: int, until: Path) -> int:
    """Let a child process hold so much until a file is there."""
    hold = f"content = b'x' * ({megabytes} * 1_000_000); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 60
        while not until.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        child.communicate("\n")
    return child.returncode


def fail(message: str) -> None:
    raise ValueError(message)


def die(code: int) -> None:
    sys.stderr.write("last words")
    sys.stderr.flush()
    os._exit(code)


def slowly_doubled(number: int) -> int:
    time.sleep(0.4)
    return 2 * number


def environment(name: str) -> str | None:
    sys.stdout.write("this is no answer")
    return os.environ.get(name)
