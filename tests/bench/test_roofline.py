"""Costs are those that torch counts in a real model that generates; bounds follow from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSeq2SeqLM, PretrainedConfig

from reviewsum_assets.bench.contenders import shaped_config
from reviewsum_assets.bench.roofline import Roofline, chunk_cost, measure_device
from tests.support.models import build_bart, build_pegasus, build_t5


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
