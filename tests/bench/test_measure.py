from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from reviewsum_assets.bench import measure as module
from reviewsum_assets.bench.measure import measure, measure_command
from reviewsum_assets.errors import BenchmarkError
from tests.bench import work


def test_the_value_is_what_the_function_returns() -> None:
    assert measure(work.add, 2, 3).value == 5


def test_only_the_function_is_timed_not_what_prepares_it() -> None:
    prepared = measure(work.doubled, 1, prepared_by=work.slowly_doubled)
    assert prepared.value == 4
    assert prepared.seconds < 0.3
    assert measure(work.slowly_doubled, 1).seconds >= 0.4


def test_memory_is_that_of_the_process_alone() -> None:
    held = b"x" * 200_000_000  # by this process, which is not the one that is measured
    small = measure(work.fill, 1).peak_mb
    assert 180 < measure(work.fill, 200).peak_mb - small < 220
    assert small < 100
    assert len(held) == 200_000_000


def test_memory_of_processes_that_it_starts_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"

    def look(pid: int) -> float:
        if (found := tree_mb(pid)) > 300:
            seen.touch()  # the child holds its memory until it has been seen
        return found

    tree_mb = module._tree_mb
    monkeypatch.setattr(module, "_tree_mb", look)
    assert measure(work.fill_in_a_child, 300, seen).peak_mb > 300


def test_an_error_of_the_function_is_told() -> None:
    with pytest.raises(BenchmarkError, match=r"work\.fail failed: ValueError: no such luck"):
        measure(work.fail, "no such luck")


def test_a_process_that_dies_is_told_with_its_last_words() -> None:
    with pytest.raises(BenchmarkError, match="ended with code 7: last words"):
        measure(work.die, 7)


def test_a_process_that_takes_too_much_memory_is_ended() -> None:
    with pytest.raises(BenchmarkError, match="it took more than 150 MB"):
        measure(work.hold, 300, limit_mb=150)


def test_the_environment_is_the_one_given() -> None:
    given = {**os.environ, "MEASURED": "yes"}
    assert measure(work.environment, "MEASURED", environment=given).value == "yes"
    assert measure(work.environment, "MEASURED").value is None


def test_a_command_is_timed_from_start_to_end_and_its_output_kept(tmp_path: Path) -> None:
    program = "import os, time; time.sleep(0.3); print(os.getcwd())"
    started = time.perf_counter()
    measured = measure_command([sys.executable, "-c", program], directory=tmp_path)
    assert 0.3 <= measured.seconds <= time.perf_counter() - started
    assert measured.value.strip() == str(tmp_path.resolve())
    assert measured.peak_mb > 1


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(BenchmarkError, match=r"ended with code 1: .*no such luck"):
        measure_command([sys.executable, "-c", "raise SystemExit('no such luck')"])
