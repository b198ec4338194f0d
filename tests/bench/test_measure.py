from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reviewsum_assets.bench.measure import crew, measure, run_command
from reviewsum_assets.errors import BenchmarkError

HERE = dict(os.environ)


def slowly_made() -> Callable[[int], int]:
    time.sleep(0.4)
    return lambda number: 2 * number


def fill(megabytes: int) -> str | None:
    return os.environ.get("MEASURED") if b"x" * (megabytes * 1_000_000) else None


def die(code: int) -> None:
    os._exit(code)


def test_every_process_measures_its_own_call_without_what_makes_the_function() -> None:
    with crew("doubling", 2, slowly_made) as run:
        found = run([1], [2])
    assert [one.value for one in found] == [2, 4]
    assert max(one.seconds for one in found) < 0.3


def test_memory_is_that_of_the_process_alone_and_the_environment_the_one_given() -> None:
    held = b"x" * 200_000_000  # by this process, which is not the one that is measured
    small = measure(fill, 1, environment={**HERE, "MEASURED": "yes"})
    large = measure(fill, 200, environment=HERE)
    assert (small.value, large.value) == ("yes", None)
    assert 180 < large.peak_mb - small.peak_mb < 220
    assert len(held) == 200_000_000


def test_memory_of_a_command_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; held = b'x' * 300_000_000; print(os.getcwd())"]
    measured = measure(run_command, command, tmp_path, environment=HERE)
    assert measured.value.strip() == str(tmp_path.resolve())
    assert measured.peak_mb > 300


def test_errors_and_ends_of_commands_and_processes_are_reported(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "raise SystemExit('no such luck')"]
    with pytest.raises(BenchmarkError, match=r"run_command failed: .*code 1: no such luck"):
        measure(run_command, failing, tmp_path, environment=HERE)
    with pytest.raises(BenchmarkError, match="die failed: BrokenProcessPool"):
        measure(die, 7, environment=HERE)
