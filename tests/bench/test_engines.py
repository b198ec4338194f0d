from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PretrainedConfig

from reviewsum_assets.bench import engines as module
from reviewsum_assets.bench.contenders import (
    BenchModel,
    Contender,
    shaped_config,
    write_shaped_model,
)
from reviewsum_assets.bench.engines import (
    EngineOptions,
    Roofline,
    agreement,
    chunk_cost,
    contenders_of,
    measure_device,
)
from reviewsum_assets.bench.report import BenchResult, measure_all
from reviewsum_assets.bench.stages import DEFAULT
from reviewsum_assets.cli.comparison import print_measured
from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.errors import BenchmarkError, JobError, SettingsError
from reviewsum_assets.job.chunking import Chunker
from reviewsum_assets.settings import SummarySettings
from tests.support.models import TEXT, build_bart, build_pegasus, build_t5

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
    dtypes = {"transformers": "float32", "ctranslate2": "float32 int8_float16"}
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
    print_measured(console, result)
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


@pytest.mark.parametrize(("part", "stage"), [("engine", "grouping"), ("stages", "lunch")])
def test_an_unknown_part_or_stage_is_refused(part: str, stage: str, tmp_path: Path) -> None:
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
    share, rouge_l, differing = agreement(tokenizer, one, [one[0], ((3,), bad), ((9,), good)])
    assert (share, rouge_l) == (0.5, (1 + 1 / 2) / 2)
    assert "poor battery\n  poor screen" in differing[0]
    assert agreement(tokenizer, one, []) == (None, None, [])


def test_a_shaped_model_cuts_text_as_the_demo_model_does_and_has_its_size(tmp_path: Path) -> None:
    write_shaped_model(tmp_path, "tiny")
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    vocabulary, width = 4_200, 32
    assert model.get_input_embeddings().weight.shape == (vocabulary, width)
    assert model.dtype == torch.float32
    tokenizer, demo = (AutoTokenizer.from_pretrained(path) for path in (tmp_path, DEMO_MODEL))
    assert len(tokenizer) == vocabulary > len(demo)
    assert tokenizer(ODD_TEXTS)["input_ids"] == demo(ODD_TEXTS)["input_ids"]
    with torch.device("meta"):
        real = AutoModelForSeq2SeqLM.from_config(shaped_config("pegasus-cnn_dailymail"))
    assert real.num_parameters() == 570_797_056


def counted(config: PretrainedConfig, tokens_in: int, tokens_out: int) -> int:
    """Operations of one greedy chunk while the model generates with its cache."""
    model = AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
    lengths = {"min_new_tokens": tokens_out, "max_new_tokens": tokens_out}
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.generate(torch.randint(5, config.vocab_size, (1, tokens_in)), **lengths)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("build", [build_pegasus, build_bart, build_t5])
def test_operations_are_those_of_a_model_that_generates(
    build: Callable[[Path], Path], tmp_path: Path
) -> None:
    directory = build(tmp_path / "model")
    config = AutoModelForSeq2SeqLM.from_pretrained(directory).config
    gflop, _ = chunk_cost(directory, 30, 7, beams=1, batch=1)
    # One pass over all steps also counts the keys that come after each.
    assert 1e9 * gflop == pytest.approx(counted(config, 30, 7), rel=0.01)


def test_a_chunk_of_the_real_shape_takes_280_gflop_and_a_batch_shares_weights(
    tmp_path: Path,
) -> None:
    shaped_config("pegasus-cnn_dailymail").save_pretrained(tmp_path)
    gflop, alone = chunk_cost(tmp_path, 300, 64, beams=3, batch=1)
    same, shared = chunk_cost(tmp_path, 300, 64, beams=3, batch=12)
    assert gflop == same == pytest.approx(279, abs=2)
    # By hand: 16 layers of 12 d^2 encoder and 2 d^2 source weights, then at each of 64 steps
    # 14 d^2 decoder weights per layer and the projection onto the vocabulary.
    weights = (16 * 14 + 64 * 16 * 14) * 1024**2 + 64 * 96_103 * 1024
    assert alone - shared == pytest.approx(weights * 11 / 12 / 1e9)


@pytest.mark.parametrize(
    ("rates", "bound_by", "pace"), [((100, 1e6), "arithmetic", 10), ((1e9, 20), "memory", 5)]
)
def test_the_slower_of_arithmetic_and_memory_bounds(
    rates: tuple[float, float], bound_by: str, pace: float
) -> None:
    found = Roofline.of((10.0, 1.0), "float32", rates)
    assert found.bound_by == bound_by
    assert found.bound_chunks_per_s == pytest.approx(pace)


def test_this_device_is_measured_and_its_threads_are_left_alone() -> None:
    before = torch.get_num_threads()
    assert min(measure_device("cpu", "float32")) > 0
    assert torch.get_num_threads() == before
