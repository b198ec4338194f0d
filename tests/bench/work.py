"""What tests have measured: functions that a process of its own can import."""

from __future__ import annotations

import os
import subprocess
import sys
import time


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


def fill_in_a_child(megabytes: int) -> int:
    hold = f"import time; content = b'x' * ({megabytes} * 1_000_000); time.sleep(0.5)"
    return subprocess.run([sys.executable, "-c", hold], check=True).returncode


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
