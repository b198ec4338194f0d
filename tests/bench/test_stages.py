"""Every stage, small: whatever is compared is the same, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewsum_assets.bench import stages
from reviewsum_assets.bench.measure import Measurement
from reviewsum_assets.bench.scale import DEFAULT, FULL, Scale
from reviewsum_assets.bench.stages import STAGES, stage_results
from reviewsum_assets.bench.workplace import StageResult
from reviewsum_assets.cli.app import app
from reviewsum_assets.errors import BenchmarkError

SMALL = Scale(
    dump_reviews=2_000,
    dump_products=20,
    eager_part=2,
    chunked_products=6,
    literal_products=1,
    planned_products=50,
    product_chars=1_000,
    finished_checkpoints=(2,),
    checkpoint_size=10,
    repeats=1,
)


def measured(stage: str, scratch: Path) -> list[StageResult]:
    told: list[str] = []
    results = stage_results(SMALL, told.append, stages=[stage], scratch=scratch)
    assert told == [stage]
    assert list(scratch.iterdir()) == []
    assert all(result.seconds > 0 and result.peak_mb > 10 for result in results)
    assert all(result.repeats == 1 for result in results)
    return results


def test_grouping_is_compared_with_a_part_of_the_dump(tmp_path: Path) -> None:
    (result,) = measured("grouping", tmp_path)
    assert result.size.startswith("2,000 reviews, ")
    assert result.baseline_seconds is not None
    assert result.ratio == pytest.approx(result.baseline_seconds / result.seconds)
    assert "measured on 1,000 reviews, its seconds times 2" in result.note


def test_chunking_is_compared_with_the_rule_taken_literally(tmp_path: Path) -> None:
    (result,) = measured("chunking", tmp_path)
    assert result.size == "6 products of 1,000 characters"
    assert result.ratio is not None
    assert result.baseline_peak_mb is not None


def test_planning_is_measured_twice(tmp_path: Path) -> None:
    first, again = measured("planning", tmp_path)
    assert (first.name, again.name) == ("first plan", "plan, nothing changed")
    assert first.ratio is None


def test_a_merge_and_a_run_with_nothing_to_do_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWSUM_MIN_REVIEWS", "not a number")  # no setting from outside counts
    merge, run = measured("finished checkpoints", tmp_path)
    assert merge.size == run.size == "2 checkpoints of 10 products"


def test_the_definitions_load(tmp_path: Path) -> None:
    (result,) = measured("definitions", tmp_path)
    assert result.name == "definitions load"


def test_results_that_differ_from_the_baselines_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="chunks are not those expected"):
        stages._require_equal("chunks", [1], [2])


def test_a_result_takes_the_median_and_the_highest_peak() -> None:
    own = [Measurement(seconds, 10 * seconds, None) for seconds in (3.0, 1.0, 2.0)]
    baseline = [Measurement(seconds, 50.0, None) for seconds in (4.0, 8.0, 6.0)]
    result = StageResult.of("stage", "size", own).against(baseline, "note", times=10)
    assert (result.seconds, result.peak_mb, result.repeats) == (2.0, 30.0, 3)
    assert (result.baseline_seconds, result.ratio, result.baseline_peak_mb) == (60.0, 30.0, 50.0)


def test_the_presets_measure_the_same_stages() -> None:
    assert set(DEFAULT.finished_checkpoints) <= set(FULL.finished_checkpoints)
    assert list(STAGES) == [
        "grouping",
        "chunking",
        "planning",
        "finished checkpoints",
        "definitions",
    ]


def test_the_help_names_every_stage() -> None:
    told = CliRunner().invoke(app, ["bench", "--help"], terminal_width=400).stdout
    assert all(stage in told for stage in STAGES)
