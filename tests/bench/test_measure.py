from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from reviewsum_assets.bench.measure import crew, measure, run_command
from reviewsum_assets.errors import BenchmarkError
from tests.bench import work

HERE = dict(os.environ)


def test_every_process_measures_its_own_call_without_what_makes_the_function() -> None:
    with crew("doubling", 2, work.slowly_made) as run:
        found = run([1], [2])
    assert [one.value for one in found] == [2, 4]
    assert max(one.seconds for one in found) < 0.3


def test_memory_is_that_of_the_process_alone() -> None:
    held = b"x" * 200_000_000  # by this process, which is not the one that is measured
    small = measure(work.fill, 1, environment=HERE).peak_mb
    assert 180 < measure(work.fill, 200, environment=HERE).peak_mb - small < 220
    assert len(held) == 200_000_000


def test_memory_of_a_command_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; held = b'x' * 300_000_000; print(os.getcwd())"]
    measured = measure(run_command, command, tmp_path, environment=HERE)
    assert measured.value.strip() == str(tmp_path.resolve())
    assert measured.peak_mb > 300


def test_a_command_that_fails_is_reported_with_its_errors(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="ended with code 1: no such luck"):
        run_command([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path)


def test_errors_and_ends_of_processes_are_reported() -> None:
    with pytest.raises(BenchmarkError, match="fail failed: ValueError: no such luck"):
        measure(work.fail, "no such luck", environment=HERE)
    with pytest.raises(BenchmarkError, match="die failed: BrokenProcessPool"):
        measure(work.die, 7, environment=HERE)


def test_the_environment_is_the_one_given() -> None:
    given = {**os.environ, "MEASURED": "yes"}
    assert measure(work.environment, "MEASURED", environment=given).value == "yes"
    assert measure(work.environment, "MEASURED", environment=HERE).value is None
