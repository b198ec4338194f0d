from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from reviewsum_assets.bench import engines as engines_module
from reviewsum_assets.bench import preparation
from reviewsum_assets.bench.agreement import agreement
from reviewsum_assets.bench.baseline import PredecessorLoop
from reviewsum_assets.bench.command import BenchOptions, measure_all
from reviewsum_assets.bench.contenders import ChunkResult
from reviewsum_assets.bench.preparation import EngineBenchOptions
from reviewsum_assets.bench.report import BenchResult, print_report
from reviewsum_assets.bench.texts import different_chunks
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.job.devices import Gpus
from reviewsum_assets.settings import SummarySettings
from tests.support.models import TEXT

SETTINGS = SummarySettings(max_length=16, min_length=4, chunk_tokens=24)


def options(tmp_path: Path, **engines: object) -> BenchOptions:
    return BenchOptions(
        parts=("engines",),
        stages=(),
        engines=EngineBenchOptions(**{"products": 3, "repeats": 2, **engines}),  # type: ignore[arg-type]
        full=False,
        scratch=tmp_path,
    )


@pytest.fixture(scope="module")
def result(pegasus: Path, tmp_path_factory: pytest.TempPathFactory) -> BenchResult:
    """One small benchmark of all engines, as on a machine of one core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0})
        scratch = tmp_path_factory.mktemp("scratch")
        chosen = options(scratch, model=str(pegasus), compared_chunks=20, output_tokens=6)
        found = measure_all(chosen, lambda _: None)
    assert list(scratch.iterdir()) == []
    return found


def test_every_engine_is_measured_beside_the_predecessor(result: BenchResult) -> None:
    assert result.baseline is not None
    assert result.baseline.ratio_to_baseline == 1.0
    names = [engine.name for engine in result.engines]
    assert names == ["transformers-float32", "ctranslate2-float32", "ctranslate2-int8"]
    for engine in result.engines:
        assert engine.chunks_per_s > 0
        assert engine.peak_mb > 50
        assert len(engine.ratios) == 2
        assert min(engine.ratios) <= engine.ratio_to_baseline <= max(engine.ratios)


def test_float32_engines_agree_and_all_are_compared(result: BenchResult) -> None:
    assert result.measured is not None
    assert (result.measured.products, result.measured.compared_chunks) == (3, 20)
    assert result.measured.tokens_out == 6
    by_name = {engine.name: engine for engine in result.engines}
    assert by_name["transformers-float32"].agreement == 1.0
    assert by_name["ctranslate2-float32"].agreement == 1.0
    assert result.differing == ()
    assert by_name["ctranslate2-int8"].agreement is not None


def test_replicas_share_the_device_and_what_it_lacks_is_left_out(
    pegasus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = [("transformers", "float32"), ("ctranslate2", "float32"), ("ctranslate2", "float16")]
    monkeypatch.setitem(engines_module._ENGINES, "cpu", types)
    # As where all do not fit into memory at once, and as on a GPU: they are loaded in turns.
    monkeypatch.setattr(engines_module, "fitting_workers", lambda _: 0)
    chosen = options(
        tmp_path, model=str(pegasus), compared_chunks=0, output_tokens=6, repeats=1, processes=2
    )
    steps: list[str] = []
    found = measure_all(chosen, steps.append)
    assert [(one.name, one.processes) for one in found.engines] == [
        ("transformers-float32", 2),
        ("ctranslate2-float32", 2),
        ("transformers-float32-1-process", 1),
    ]
    assert all(one.settled_tokens == one.batch_tokens for one in found.engines)
    (left_out,) = [step for step in steps if "is left out" in step]
    assert "ctranslate2-float16" in left_out
    assert "dtype float16 is not possible on this cpu" in left_out


def test_the_share_of_the_roofline_follows_from_the_rate(result: BenchResult) -> None:
    bound = result.rooflines["float32"].bound_chunks_per_s
    for engine in result.engines[:2]:
        assert engine.roofline_share == pytest.approx(engine.chunks_per_s / bound)


def test_the_result_is_one_object_and_a_page(result: BenchResult) -> None:
    found = json.loads(result.model_dump_json())
    assert {"name", "chunks_per_s", "ratio_to_baseline", "agreement", "peak_mb"} <= set(
        found["engines"][1]
    )
    assert found["settings"]["summary_settings"]["num_beams"] == 3
    console = Console(record=True, width=200)
    print_report(console, result)
    text = console.export_text()
    assert "ctranslate2-float32" in text
    assert "GFLOP/s" in text


@pytest.mark.parametrize(
    ("engines", "message"),
    [
        ({"device": "tpu"}, "no device 'tpu': there are cpu and cuda"),
        ({"device": "cuda"}, "there is no GPU to use: no driver shows one"),
        ({"shape": "round"}, "no shape 'round': there are pegasus-cnn_dailymail"),
    ],
)
def test_what_cannot_be_measured_is_named(
    engines: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "find_gpus", lambda _: Gpus())
    with pytest.raises(BenchmarkError, match=message):
        measure_all(options(tmp_path, **engines), lambda _: None)


def test_unknown_parts_and_stages_are_named(tmp_path: Path) -> None:
    plain = EngineBenchOptions()
    with pytest.raises(BenchmarkError, match="no part 'engine': there are engines, stages"):
        measure_all(BenchOptions(("engine",), (), plain, False, tmp_path), lambda _: None)
    with pytest.raises(BenchmarkError, match="no stage 'lunch': there are grouping"):
        measure_all(BenchOptions((), ("lunch",), plain, False, tmp_path), lambda _: None)


def test_the_predecessors_chunks_are_those_of_the_chunker(pegasus: Path) -> None:
    loop = PredecessorLoop(pegasus, "", SETTINGS, device="cpu", threads=1)
    tokenizer = ChunkTokenizer.load(pegasus, "", SETTINGS.encoder_tokens)
    (found,) = loop.summarize([TEXT])
    expected = [list(chunk.token_ids) for chunk in Chunker(tokenizer, SETTINGS).chunks(TEXT)]
    assert [ids for ids, _, _ in found] == expected
    assert all(summary for _, summary, _ in found)


def test_the_chunks_to_compare_are_all_different(pegasus: Path) -> None:
    chunks = list(different_chunks(pegasus, "", SETTINGS, [TEXT * 5, TEXT]))
    assert len(chunks) == len(set(chunks)) > 20


def test_agreement_counts_equal_summaries_and_shows_the_others() -> None:
    one = [ChunkResult((1, 2), "a good sound", 3), ChunkResult((3,), "a poor battery", 3)]
    other = [one[0], ChunkResult((3,), "a bad battery", 3), ChunkResult((9,), "unknown", 1)]
    found = agreement("x", one, other)
    assert (found.chunks, found.identical_share) == (2, 0.5)
    assert found.rouge_l == pytest.approx((1 + 2 / 3) / 2)
    assert "a poor battery\n  a bad battery" in found.differing[0]
    assert agreement("x", one, []).chunks == 0
