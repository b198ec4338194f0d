"""Every stage, small: results that are compared are the same, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from reviewsum_assets.bench import stages
from reviewsum_assets.bench.engines import EngineOptions
from reviewsum_assets.bench.report import measure_all
from reviewsum_assets.bench.stages import DEFAULT, Scale, StageResult, stage_results
from reviewsum_assets.errors import BenchmarkError
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
    for part, stage in (("engine", "grouping"), ("stages", "lunch")):
        with pytest.raises(BenchmarkError, match="there are"):
            measure_all([part], [stage], EngineOptions(), DEFAULT, tmp_path, print)
