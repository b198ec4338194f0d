from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from reviewsum_assets.bench import engines as module
from reviewsum_assets.bench.contenders import (
    SHAPES,
    BenchModel,
    Contender,
    shaped_config,
    write_shaped_model,
)
from reviewsum_assets.bench.engines import EngineOptions, agreement, contenders_of
from reviewsum_assets.bench.report import BenchResult, measure_all, print_report
from reviewsum_assets.bench.stages import DEFAULT
from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.errors import BenchmarkError, JobError, SettingsError
from reviewsum_assets.job.chunking import Chunker
from reviewsum_assets.settings import SummarySettings
from tests.support.models import TEXT

SETTINGS = SummarySettings(max_length=16, min_length=4, chunk_tokens=24)
ODD_TEXTS = [
    "The battery easily lasts a week! Music sounds full and warm.<n>Café naïve, 4/5 stars.",
    "Unknown \N{SNOWMAN} characters \N{SKULL AND CROSSBONES}, \N{CJK UNIFIED IDEOGRAPH-65E5}\t\n.",
    "<filler 4000> <filler\N{LOWER ONE EIGHTH BLOCK}4001> filler 4002>",
]


def measured(scratch: Path, steps: list[str], **options: object) -> BenchResult:
    chosen = EngineOptions(**{"products": 3, "output_tokens": 6, **options})  # type: ignore[arg-type]
    found = measure_all(["engines"], (), chosen, DEFAULT, scratch, steps.append)
    assert list(scratch.iterdir()) == []
    return found


def test_every_engine_is_measured_beside_the_predecessor(
    pegasus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes = {"transformers": ["float32"], "ctranslate2": ["float32", "int8_float16"]}
    monkeypatch.setitem(module._DTYPES, "cpu", dtypes)
    steps: list[str] = []
    chosen = {"model": str(pegasus), "compared_chunks": 20, "repeats": 1, "processes": 1}
    result = measured(tmp_path, steps, **chosen)
    assert result.baseline is not None and result.measured is not None
    assert result.baseline.ratio_to_baseline == 1.0
    names = [engine.name for engine in result.engines]
    assert names == ["transformers-float32", "ctranslate2-float32"]
    for engine in result.engines:
        assert min(engine.chunks_per_s, engine.tokens_per_s) > 0
        assert engine.ratios == [engine.ratio_to_baseline]
        assert engine.peak_mb > 50
        assert engine.settled_tokens == engine.batch_tokens
    bound = result.rooflines["float32"].bound_chunks_per_s
    assert result.engines[0].roofline_share == result.engines[0].chunks_per_s / bound
    assert (result.measured.products, result.measured.tokens_out) == (3, 6)
    assert result.measured.compared_chunks >= 20
    assert [one.agreement for one in result.engines] == [1.0, 1.0]
    assert result.differing == []
    (left_out,) = [step for step in steps if "is left out" in step]
    assert "dtype int8_float16 is not possible on this cpu" in left_out
    console = Console(record=True, width=80)
    print_report(console, result)
    assert "…" not in console.export_text()  # no figure is cut off


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
    with pytest.raises((BenchmarkError, JobError, SettingsError)):
        measured(tmp_path, [], **options)


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


def test_a_shaped_model_cuts_text_as_the_demo_model_does_and_has_its_size(tmp_path: Path) -> None:
    write_shaped_model(tmp_path, "tiny")
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    _, width, *_, vocabulary, _ = SHAPES["tiny"]
    assert model.get_input_embeddings().weight.shape == (vocabulary, width)
    assert model.dtype == torch.float32
    tokenizer, demo = (AutoTokenizer.from_pretrained(path) for path in (tmp_path, DEMO_MODEL))
    assert len(tokenizer) == vocabulary > len(demo)
    assert tokenizer(ODD_TEXTS)["input_ids"] == demo(ODD_TEXTS)["input_ids"]
    with torch.device("meta"):
        real = AutoModelForSeq2SeqLM.from_config(shaped_config("pegasus-cnn_dailymail"))
    assert real.num_parameters() == 570_797_056
