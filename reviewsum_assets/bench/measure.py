"""Measures work in fresh processes: seconds, and peak resident memory.

A fresh process has imported little else and returns all of its memory at its end, so that no
measurement changes the next.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.progress import peak_memory_bytes

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
_made: list[Callable[..., Any]] = []  # in a fresh process, the function that it measures


class Measurement(NamedTuple):
    """Wall-clock seconds, peak memory of the process or its largest command in MB, the result."""

    seconds: float
    peak_mb: float
    value: Any


@contextmanager
def crew(
    name: str, processes: int, make: Callable[[], Callable[..., Any]]
) -> Iterator[Callable[..., list[Measurement]]]:
    """Hold fresh processes, and yield a function that measures one call in each, all at once.

    The function takes the arguments of each call as one sequence, and raises a BenchmarkError if a
    call raised an error or a process ended. In each process, ``make`` returns the function to call;
    this is not measured.
    """
    with ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            for _ in range(processes)
        ]

        def run(*calls: Sequence[Any]) -> list[Measurement]:
            pairs = zip(pools, calls, strict=True)
            try:
                futures = [pool.submit(_measured, make, *arguments) for pool, arguments in pairs]
                return [future.result() for future in futures]
            except Exception as error:  # any error of a library in the process that is measured
                reason = f"{type(error).__name__}: {error}"
                raise BenchmarkError(f"{name} failed: {reason}") from error

        yield run


def measure(
    function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str], library: str = ""
) -> Measurement:
    """Measure one call in a fresh process; imports, also that of a library, are not part of it."""
    make = partial(_imported, function, environment, library)
    with crew(function.__name__, 1, make) as run:
        return run(arguments)[0]


def run_command(command: Sequence[str], directory: Path) -> str:
    """Run a command to its end and return its standard output."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"{command[0]} ended with code {done.returncode}: {done.stderr}")
    return done.stdout


def _imported(function: Callable[..., Any], environment: Mapping[str, str], library: str) -> Any:
    os.environ.clear()
    os.environ.update(environment)
    if library:
        import_module(library)
    return function


def _measured(make: Callable[[], Callable[..., Any]], *arguments: Any) -> Measurement:
    function = _made[0] if _made else make()
    _made[:] = [function]
    started = time.perf_counter()
    value = function(*arguments)
    seconds = time.perf_counter() - started
    of_commands = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _MAXRSS_BYTES
    return Measurement(seconds, max(peak_memory_bytes(), of_commands) / 1e6, value)
