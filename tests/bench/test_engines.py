from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from reviewsum_assets.bench import engines as module
from reviewsum_assets.bench.contenders import BenchModel, Contender
from reviewsum_assets.bench.engines import EngineOptions, agreement, contenders_of
from reviewsum_assets.bench.report import BenchResult, measure_all, print_report
from reviewsum_assets.bench.stages import DEFAULT
from reviewsum_assets.errors import BenchmarkError, JobError
from reviewsum_assets.job.chunking import Chunker
from reviewsum_assets.settings import SummarySettings
from tests.support.models import TEXT

SETTINGS = SummarySettings(max_length=16, min_length=4, chunk_tokens=24)


def measured(scratch: Path, steps: list[str], **options: object) -> BenchResult:
    chosen = EngineOptions(**{"products": 3, "output_tokens": 6, **options})  # type: ignore[arg-type]
    found = measure_all(["engines"], (), chosen, DEFAULT, scratch, steps.append)
    assert list(scratch.iterdir()) == []
    return found


@pytest.fixture(scope="module")
def result(pegasus: Path, tmp_path_factory: pytest.TempPathFactory) -> BenchResult:
    """One small benchmark of all engines, as on a machine of one core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0})
        scratch = tmp_path_factory.mktemp("scratch")
        return measured(scratch, [], model=str(pegasus), compared_chunks=20, repeats=2)


def test_every_engine_is_measured_beside_the_predecessor(result: BenchResult) -> None:
    assert result.baseline is not None
    assert result.baseline.ratio_to_baseline == 1.0
    names = [engine.name for engine in result.engines]
    assert names == ["transformers-float32", "ctranslate2-float32", "ctranslate2-int8"]
    for engine in result.engines:
        assert min(engine.chunks_per_s, engine.tokens_per_s) > 0
        assert engine.peak_mb > 50
        assert len(engine.ratios) == 2
        assert min(engine.ratios) <= engine.ratio_to_baseline <= max(engine.ratios)
        assert engine.settled_tokens == engine.batch_tokens
    bound = result.rooflines["float32"].bound_chunks_per_s
    assert result.engines[0].roofline_share == result.engines[0].chunks_per_s / bound


def test_float32_engines_agree_and_all_are_compared(result: BenchResult) -> None:
    assert result.measured is not None
    assert (result.measured.products, result.measured.tokens_out) == (3, 6)
    assert result.measured.compared_chunks >= 20
    assert [one.agreement for one in result.engines[:2]] == [1.0, 1.0]
    assert result.differing == []
    assert result.engines[2].agreement is not None


def test_the_result_is_one_object_and_a_page(result: BenchResult) -> None:
    found = json.loads(result.model_dump_json())
    assert found["settings"]["summary_settings"]["num_beams"] == 3
    console = Console(record=True, width=80)
    print_report(console, result)
    page = console.export_text()
    assert "ctranslate2-float32" in page
    assert "…" not in page  # no figure is cut off


def test_replicas_share_the_device_and_types_it_lacks_are_left_out(
    pegasus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {"transformers": ["float32"], "ctranslate2": ["int8_float16"]}
    monkeypatch.setitem(module._DTYPES, "cpu", types)
    steps: list[str] = []
    chosen = {"model": str(pegasus), "compared_chunks": 0, "repeats": 1, "processes": 2}
    found = measured(tmp_path, steps, **chosen)
    assert [(one.name, one.processes) for one in found.engines] == [("transformers-float32", 2)]
    (left_out,) = [step for step in steps if "is left out" in step]
    assert "dtype int8_float16 is not possible on this cpu" in left_out


def test_a_gpu_measures_every_type_at_every_size_of_batch() -> None:
    options = EngineOptions(device="cuda", processes=2, batch_tokens=(1_000, 2_000))
    names = [one.name for one in contenders_of(options)]
    assert len(names) == len(set(names)) == 13
    assert {"predecessor", "ctranslate2-float16-1000", "transformers-bfloat16-2000"} <= set(names)


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"device": "cuda"}, {"shape": "round"}])
def test_options_that_cannot_be_measured_are_refused(
    options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises((BenchmarkError, JobError)):
        measured(tmp_path, [], **options)


@pytest.mark.parametrize(("part", "stage"), [("engine", "grouping"), ("stages", "lunch")])
def test_unknown_parts_and_stages_are_refused(part: str, stage: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="there are"):
        measure_all([part], [stage], EngineOptions(), DEFAULT, tmp_path, print)


def test_the_predecessors_chunks_are_those_of_the_chunker(pegasus: Path) -> None:
    model = BenchModel(pegasus, pegasus, "", SETTINGS, "cpu")
    chunks, _ = Contender("baseline", None, "float32", 1, 1, 0).loop(model)([TEXT])
    expected = [chunk.token_ids for chunk in Chunker(model.tokenizer(), SETTINGS).chunks(TEXT)]
    assert [ids for ids, _ in chunks] == expected
    assert all(summary for _, summary in chunks)


def test_agreement_counts_equal_summaries_and_shows_the_others(pegasus: Path) -> None:
    tokenizer = BenchModel(pegasus, pegasus, "", SETTINGS, "cpu").tokenizer()
    good, poor, bad = (
        tuple(tokenizer.encode(text)) for text in ("good sound", "poor battery", "poor screen")
    )
    one = [((1, 2), good), ((3,), poor)]
    found = agreement(tokenizer, one, [one[0], ((3,), bad), ((9,), good)])
    assert found.identical == 0.5
    assert found.rouge_l == pytest.approx((1 + 1 / 2) / 2)
    assert "poor battery\n  poor screen" in found.differing[0]
    assert agreement(tokenizer, one, []).identical is None
