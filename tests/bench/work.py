"""Functions to measure, which a fresh process can import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def slowly_made() -> Callable[[int], int]:
    time.sleep(0.4)
    return lambda number: 2 * number


def fill(megabytes: int) -> int:
    return len(b"x" * (megabytes * 1_000_000))


def fail(message: str) -> None:
    raise ValueError(message)


def die(code: int) -> None:
    os._exit(code)


def environment(name: str) -> str | None:
    return os.environ.get(name)
