"""Every stage, small: results that are compared are the same, and nothing stays behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reviewsum_assets.bench import stages
from reviewsum_assets.bench.stages import (
    Scale,
    StageResult,
    crew,
    measure,
    run_command,
    stage_results,
)
from reviewsum_assets.errors import BenchmarkError
from tests.support.dumps import Review, amazon_2018, json_lines, reviews_of, write

HERE = dict(os.environ)
SMALL = Scale(2_000, 20, 50, (2,), checkpoint_size=10, repeats=1)
ODD_TEXTS = [
    " plain,  spaced\tand\nbroken \u00a0",
    "a < b, <3, <b>bold</b><br/> <!-- c\nd -->e",
    "&amp;amp;lt;i&gt; &quot;x&quot; &#233;",
    "see HTTPS://example.com/a?b=c, www.example.com. and xhttp://no or \u00e9www.no too",
    "www.one.com www.two.com <www.three.com>",
    "zero\u200bwidth so\u00adft \ufeff e\u0301 \u2028line\x00nul\x85next\x1fsep",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd",
]


def measured(stage: str, scratch: Path) -> list[StageResult]:
    steps: list[str] = []
    results = list(stage_results(SMALL, [stage], scratch, steps.append))
    assert steps == [f"stage: {stage}"]
    assert list(scratch.iterdir()) == []
    assert all(result.seconds > 0 and result.repeats == 1 for result in results)
    return results


def test_grouping_is_compared_with_duckdb(tmp_path: Path) -> None:
    (result,) = measured("grouping", tmp_path)
    assert result.size.startswith("2,000 reviews, ")
    assert result.baseline_seconds is not None
    assert result.ratio == pytest.approx(result.baseline_seconds / result.seconds)


def test_duckdb_cleans_deduplicates_and_orders_as_grouping_does(tmp_path: Path) -> None:
    reviews = [
        *reviews_of("P1", 7, votes=1),
        *reviews_of("P1", 3, votes=1, title="the same again"),
        *reviews_of("P2", 6, day=17_100),
        *reviews_of("P3", 4),  # too few
        Review("P2", "B", "1,024 people found this one helpful.", votes=1024),
        Review("P2", "A", "Later that day: this one is long enough.", day=17_101, second=9),
        Review("P2", "C", "too short"),
        *(Review("P2", f"R{n}", f"{text}, long enough.") for n, text in enumerate(ODD_TEXTS)),
    ]
    dump = Path(write(tmp_path / "dump.jsonl", json_lines(amazon_2018, reviews)))
    lake, table = str(tmp_path / "lake"), tmp_path / "grouped.parquet"
    stages.group(lake, dump)
    stages.group_with_duckdb(dump, table)
    assert stages.is_same(lake, table)
    dump.write_bytes(b"".join(dump.read_bytes().splitlines(keepends=True)[:-1]))
    stages.group_with_duckdb(dump, table)
    assert not stages.is_same(lake, table)


def test_the_other_stages_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWSUM_MIN_REVIEWS", "not a number")  # no setting from outside counts
    names = [result.name for result in measured("planning", tmp_path)]
    assert names == ["first plan", "plan, nothing changed"]
    assert [result.name for result in measured("definitions", tmp_path)] == ["definitions load"]
    merge, run = measured("finished checkpoints", tmp_path)
    assert merge.size == run.size == "2 checkpoints of 10 products"


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
