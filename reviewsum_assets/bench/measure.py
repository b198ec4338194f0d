"""Runs work in a process of its own and measures it: seconds, and peak resident memory.

A process of its own has imported nothing else, owns its memory alone and leaves none behind, so
that one measurement cannot change the next.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import psutil

from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.progress import peak_memory_bytes

T = TypeVar("T")

_SAMPLE_SECONDS = 0.05
_MB = 1e6
_LAST_WORDS = 2_000
_SERVE = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve()"


@dataclass(frozen=True)
class Measurement(Generic[T]):
    """What was measured: seconds of wall-clock time, MB (a million bytes), and the result.

    ``peak_mb`` is the peak resident memory of the process and of the processes it started, all at
    one time; pages that several of them share count in each.
    """

    seconds: float
    peak_mb: float
    value: T


@dataclass(frozen=True)
class _Answer:
    """What a measured process reports about itself."""

    seconds: float
    peak_mb: float
    value: Any


def measure(
    function: Callable[..., T],
    *arguments: Any,
    prepared_by: Callable[..., Any] | None = None,
    limit_mb: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Measurement[T]:
    """Call a function in a fresh process; seconds are those of the call alone, after all imports.

    Args:
        function: at the top level of a module, so that the process can import it.
        arguments: picklable, as is what the function returns.
        prepared_by: called first, with the arguments and outside the seconds; the function then
            gets what it returns instead of them.
        limit_mb: memory at which the process is ended.
        environment: of the process; None: that of this one.

    Raises:
        BenchmarkError: the function raised, its process died, or ``limit_mb`` was reached.
    """
    command = [sys.executable, "-c", _SERVE.format(path=sys.path, module=__name__)]
    request = pickle.dumps((function, arguments, prepared_by))
    name = f"{function.__module__}.{function.__qualname__}"
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out:
        given.write(request)
        given.seek(0)
        watched = _watch(name, command, given, out, environment, limit_mb)
        out.seek(0)
        content = out.read()
    if watched.exit_code or not content:
        raise BenchmarkError(f"{name} ended with code {watched.exit_code}: {watched.last_words}")
    answer = pickle.loads(content)
    if isinstance(answer, str):
        raise BenchmarkError(f"{name} failed: {answer}")
    return Measurement(answer.seconds, max(answer.peak_mb, watched.peak_mb), answer.value)


def measure_command(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Measurement[str]:
    """Run a command from its start to its end; the value is its standard output.

    Raises:
        BenchmarkError: it ended with another exit code than 0.
    """
    with tempfile.TemporaryFile() as out:
        started = time.perf_counter()
        watched = _watch(command[0], command, None, out, environment, None, directory)
        seconds = time.perf_counter() - started
        out.seek(0)
        if watched.exit_code:
            raise BenchmarkError(
                f"{' '.join(command)} ended with code {watched.exit_code}: {watched.last_words}"
            )
        return Measurement(seconds, watched.peak_mb, out.read().decode())


def serve() -> None:
    """Be the measured process: a request on standard input, the answer on standard output."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the function prints is no answer
    answer: _Answer | str
    try:
        answer = _answer(*pickle.load(sys.stdin.buffer))
        content = pickle.dumps(answer)
    except Exception as error:  # whatever the function raises: the parent raises it again
        content = pickle.dumps(f"{type(error).__name__}: {error}")
    with answers:
        answers.write(content)


def _answer(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    prepared_by: Callable[..., Any] | None,
) -> _Answer:
    if prepared_by is not None:
        arguments = (prepared_by(*arguments),)
    started = time.perf_counter()
    value = function(*arguments)
    seconds = time.perf_counter() - started
    return _Answer(seconds, peak_memory_bytes() / _MB, value)


@dataclass(frozen=True)
class _Watched:
    exit_code: int
    peak_mb: float
    last_words: str


def _watch(
    name: str,
    command: Sequence[str],
    given: IO[bytes] | None,
    out: IO[bytes],
    environment: Mapping[str, str] | None,
    limit_mb: float | None,
    directory: Path | None = None,
) -> _Watched:
    """Run a process to its end, looking at its memory now and then."""
    peak = 0.0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=given or subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            env=None if environment is None else dict(environment),
            cwd=directory,
        )
        try:
            while (exit_code := _ended(process)) is None:
                peak = max(peak, _tree_mb(process.pid))
                if limit_mb is not None and peak > limit_mb:
                    raise BenchmarkError(f"{name} was ended: it took more than {limit_mb:,.0f} MB")
        finally:
            _kill_tree(process)
        errors.seek(0)
        return _Watched(exit_code, peak, errors.read().decode(errors="replace")[-_LAST_WORDS:])


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, or None if the process goes on after a moment."""
    try:
        return process.wait(_SAMPLE_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _tree_mb(pid: int) -> float:
    """Resident memory of a process and of all that it started, now."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / _MB


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and what it started."""
    if process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        process.kill()
        process.wait()
