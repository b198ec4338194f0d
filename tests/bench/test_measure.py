from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from reviewsum_assets.bench.measure import crew, measure, run_command
from reviewsum_assets.errors import BenchmarkError
from tests.bench import work

HERE = dict(os.environ)


def test_the_value_is_what_the_function_returns() -> None:
    assert measure(work.add, 2, 3, environment=HERE).value == 5


def test_every_process_measures_its_own_call_without_what_makes_the_function() -> None:
    with crew("doubling", 2, work.slowly_made) as run:
        first, second = run([1], [2])
    assert (first.value, second.value) == (2, 4)
    assert max(first.seconds, second.seconds) < 0.3


def test_memory_is_that_of_the_process_alone() -> None:
    held = b"x" * 200_000_000  # by this process, which is not the one that is measured
    small = measure(work.fill, 1, environment=HERE).peak_mb
    assert 180 < measure(work.fill, 200, environment=HERE).peak_mb - small < 220
    assert len(held) == 200_000_000


def test_memory_of_a_command_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print(len(b'x' * 300_000_000))"]
    measured = measure(run_command, command, tmp_path, environment=HERE)
    assert measured.value.strip() == "300000000"
    assert measured.peak_mb > 300


def test_a_command_runs_in_the_directory(tmp_path: Path) -> None:
    found = run_command([sys.executable, "-c", "import os; print(os.getcwd())"], tmp_path)
    assert found.strip() == str(tmp_path.resolve())


def test_a_command_that_fails_is_reported_with_its_errors(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="ended with code 1: no such luck"):
        run_command([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path)


def test_an_error_of_the_function_is_reported() -> None:
    with pytest.raises(BenchmarkError, match="fail failed: ValueError: no such luck"):
        measure(work.fail, "no such luck", environment=HERE)


def test_a_process_that_dies_is_reported() -> None:
    with pytest.raises(BenchmarkError, match="die failed: BrokenProcessPool"):
        measure(work.die, 7, environment=HERE)


def test_the_environment_is_the_one_given() -> None:
    given = {**os.environ, "MEASURED": "yes"}
    assert measure(work.environment, "MEASURED", environment=given).value == "yes"
    assert measure(work.environment, "MEASURED", environment=HERE).value is None
