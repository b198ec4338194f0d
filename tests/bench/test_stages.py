"""Every stage, small: results that are compared are the same, and nothing stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewsum_assets.bench import stages
from reviewsum_assets.bench.measure import Measurement
from reviewsum_assets.bench.stages import STAGES, Scale, StageResult, stage_results
from reviewsum_assets.cli.app import app
from tests.support.dumps import Review, amazon_2018, json_lines, reviews_of, write

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


def test_grouping_without_duckdb_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "find_spec", lambda _: None)
    (result,) = measured("grouping", tmp_path)
    assert result.ratio is None
    assert "pip install duckdb" in result.note


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


def test_a_merge_and_a_run_with_nothing_to_do_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWSUM_MIN_REVIEWS", "not a number")  # no setting from outside counts
    merge, run = measured("finished checkpoints", tmp_path)
    assert merge.size == run.size == "2 checkpoints of 10 products"


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("planning", ["first plan", "plan, nothing changed"]),
        ("definitions", ["definitions load"]),
    ],
)
def test_other_stages_are_measured(stage: str, names: list[str], tmp_path: Path) -> None:
    assert [result.name for result in measured(stage, tmp_path)] == names


def test_a_result_takes_the_median_and_the_highest_peak() -> None:
    own = [Measurement(seconds, 10 * seconds, None) for seconds in (3.0, 1.0, 2.0)]
    baseline = [Measurement(seconds, 50.0, None) for seconds in (4.0, 8.0, 6.0)]
    result = StageResult.of("stage", "size", own).beside(baseline, "note")
    assert (result.seconds, result.peak_mb, result.repeats) == (2.0, 30.0, 3)
    assert (result.baseline_seconds, result.ratio, result.baseline_peak_mb) == (6.0, 3.0, 50.0)


def test_a_dump_has_reviews_of_the_usual_length_and_some_that_repeat(tmp_path: Path) -> None:
    stages.write_dump(tmp_path / "dump.jsonl", 3000, 20)
    lines = (tmp_path / "dump.jsonl").read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["asin"] for line in lines}) == 20
    assert 400 < sum(map(len, lines)) / 3000 < 460
    assert len(set(lines)) < len(lines) == 3000


def test_the_help_names_every_stage() -> None:
    shown = CliRunner().invoke(app, ["bench", "--help"], terminal_width=400).stdout
    assert all(stage in shown for stage in STAGES)
