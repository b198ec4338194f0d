"""Costs are those that torch counts in a real model that generates; bounds follow from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    PegasusConfig,
    PretrainedConfig,
    T5Config,
)

from reviewsum_assets.bench import roofline as roof
from reviewsum_assets.bench.device_rates import DeviceRates, measure_device
from reviewsum_assets.bench.roofline import Dimensions, Roofline, Workload, roofline
from reviewsum_assets.bench.shaped_model import SHAPES
from reviewsum_assets.errors import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

_SIZES = {
    "vocab_size": 300,
    "d_model": 48,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 112,
    "max_position_embeddings": 64,
}
_T5_SIZES = {
    "vocab_size": 300,
    "d_model": 48,
    "d_kv": 16,
    "num_heads": 2,
    "d_ff": 80,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "decoder_start_token_id": 0,
}
CONFIGS = [
    pytest.param(PegasusConfig(**_SIZES), id="pegasus"),
    pytest.param(BartConfig(**_SIZES), id="bart"),
    pytest.param(T5Config(**_T5_SIZES), id="t5"),
    pytest.param(T5Config(**_T5_SIZES, feed_forward_proj="gated-gelu"), id="t5 gated"),
]
WORK = Workload(tokens_in=30, tokens_out=7, beams=3, batch=2, bytes_per_number=4)
PEGASUS = SHAPES["pegasus-cnn_dailymail"].config().to_dict()


def _counted(config: PretrainedConfig, work: Workload) -> float:
    """Operations a chunk that torch counts while the model generates with its cache."""
    # torch counts no fused attention on a CPU.
    model = AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
    ids = torch.randint(5, config.vocab_size, (work.batch, work.tokens_in))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            num_beams=work.beams,
            min_new_tokens=work.tokens_out,
            max_new_tokens=work.tokens_out,
        )
    assert output.shape == (work.batch, work.tokens_out + 1)
    operations: int = counter.get_total_flops()
    return operations / work.batch


def _weights(config: PretrainedConfig) -> int:
    """Numbers of all matrices, the shared embedding once, positions left out."""
    model = AutoModelForSeq2SeqLM.from_config(config)
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.dim() == 2 and "embed_positions" not in name and "relative" not in name
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_operations_are_those_of_a_model_that_generates(config: PretrainedConfig) -> None:
    model = Dimensions.from_config(config.to_dict())
    # transformers makes the keys and values of the source once a beam, not once a chunk.
    repeated = (WORK.beams - 1) * roof.source_operations(model, WORK)
    assert roof.operations_per_chunk(model, WORK) + repeated == _counted(config, WORK)


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_are_those_of_the_model(config: PretrainedConfig) -> None:
    model = Dimensions.from_config(config.to_dict())
    assert _weights(config) == (
        model.encoder_weights + model.source_weights + model.step_weights + model.output_weights
    )


def test_a_batch_shares_the_reading_of_weights_and_nothing_else() -> None:
    model = Dimensions.from_config(PEGASUS)
    alone, shared = (
        Workload(tokens_in=300, tokens_out=64, beams=3, batch=batch, bytes_per_number=4)
        for batch in (1, 12)
    )
    assert roof.weight_bytes(model, alone) == pytest.approx(12 * roof.weight_bytes(model, shared))
    assert roof.cache_bytes(model, alone) == roof.cache_bytes(model, shared)
    assert roof.logit_bytes(model, alone) == roof.logit_bytes(model, shared)
    assert roof.operations_per_chunk(model, alone) == roof.operations_per_chunk(model, shared)


def test_cache_traffic_is_that_of_the_steps_one_by_one() -> None:
    model = Dimensions.from_config(PegasusConfig(**_SIZES).to_dict())
    position = 2 * 48 * 2 * 4  # key and value, width, layers, bytes a number
    source = 30 * position
    moved = source  # written
    for step in range(1, WORK.tokens_out + 1):
        moved += source + WORK.beams * step * position
    assert roof.cache_bytes(model, WORK) == moved


def test_a_chunk_of_the_real_model_takes_280_gflop() -> None:
    work = Workload(tokens_in=300, tokens_out=64, beams=3, batch=12, bytes_per_number=4)
    found = roofline(PEGASUS, work, DeviceRates(gflops=100, gb_per_s=20))
    assert found.gflop_per_chunk == pytest.approx(279, abs=0.5)


@pytest.mark.parametrize(
    ("device", "bound_by"),
    [
        (DeviceRates(gflops=100, gb_per_s=1e6), "arithmetic"),
        (DeviceRates(gflops=1e9, gb_per_s=20), "memory"),
    ],
)
def test_the_slower_of_arithmetic_and_memory_bounds(device: DeviceRates, bound_by: str) -> None:
    work = Workload(tokens_in=300, tokens_out=64, beams=3, batch=12, bytes_per_number=4)
    found = roofline(PEGASUS, work, device)
    seconds = {
        "arithmetic": found.gflop_per_chunk / device.gflops,
        "memory": found.mb_per_chunk / 1000 / device.gb_per_s,
    }
    assert found.bound_by == bound_by
    assert found.bound_chunks_per_s == pytest.approx(1 / max(seconds.values()))
    assert found.share_reached(found.bound_chunks_per_s / 4) == pytest.approx(0.25)


def test_a_roofline_survives_json() -> None:
    found = roofline(PEGASUS, WORK, DeviceRates(gflops=100, gb_per_s=20))
    assert Roofline.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({}, "None"),
        ({"model_type": "bart", "d_model": 8}, "encoder_layers"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused_by_name(
    config: dict[str, Any], named: str
) -> None:
    with pytest.raises(ModelError, match=named):
        Dimensions.from_config(config)


def test_this_device_is_measured_and_its_threads_are_left_alone() -> None:
    torch.set_num_threads(2)
    rates = measure_device("cpu", "float32", 1, seconds=0.02)
    assert rates.gflops > 0
    assert rates.gb_per_s > 0
    assert torch.get_num_threads() == 2
