"""The fastest pace at which a device could summarize chunks, by the roofline model.

Work takes at least its operations at the device's matrix rate, and at least its traffic at the
memory's bandwidth (https://doi.org/10.1145/1498765.1498785). torch counts the operations in one
pass of the model, without data, over the steps of beam search with a cache. Traffic is the least
that these steps need: the encoder reads weights once per batch, the decoder once per token.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from reviewsum_assets.job.devices import usable_cores

BYTES_PER_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}
# Large enough for the full rate: 17 GFLOP on a CPU, 1.1 TFLOP on a GPU.
_MATRIX_ROWS = {"cpu": 2048, "cuda": 8192}
_RUNS = 3
_COPY_BYTES = 2**29  # larger than the last cache of any processor


class Roofline(BaseModel):
    """Cost of a chunk, rates of the device per second, and the pace that follows from them."""

    gflop_per_chunk: float
    mb_per_chunk: float
    device_gflops: float
    device_gb_per_s: float
    bound_chunks_per_s: float
    bound_by: Literal["arithmetic", "memory"]

    @classmethod
    def of(cls, cost: tuple[float, float], dtype: str, rates: tuple[float, float]) -> Roofline:
        """Bound the pace of chunks of a ``chunk_cost`` by the rates of ``measure_device``."""
        gigabytes = BYTES_PER_NUMBER[dtype] * cost[1]
        arithmetic_s, memory_s = cost[0] / rates[0], gigabytes / rates[1]
        return cls(
            gflop_per_chunk=cost[0],
            mb_per_chunk=gigabytes * 1e3,
            device_gflops=rates[0],
            device_gb_per_s=rates[1],
            bound_chunks_per_s=1 / max(arithmetic_s, memory_s),
            bound_by="arithmetic" if arithmetic_s >= memory_s else "memory",
        )


def chunk_cost(
    directory: Path, tokens_in: int, tokens_out: int, beams: int, batch: int
) -> tuple[float, float]:
    """Count billions of operations, and of numbers moved to or from memory, per chunk of a batch.

    The model's weights are not read; ``batch`` is in chunks.
    """
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    steps = max(2, tokens_out)
    with torch.device("meta"), torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions name the cache otherwise
        # torch counts no fused attention on this device.
        model: Any = AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
        with FlopCounterMode(display=False) as first:
            source = model.get_encoder()(torch.zeros(1, tokens_in, dtype=torch.long))
            token = torch.zeros(1, 1, dtype=torch.long)
            step = model(encoder_outputs=source, decoder_input_ids=token, use_cache=True)
        cache = step.past_key_values
        source_numbers = _numbers_of(cache.cross_attention_cache)
        cache.batch_repeat_interleave(beams)
        source.last_hidden_state = source.last_hidden_state.expand(beams, -1, -1)
        with FlopCounterMode(display=False) as later:
            tokens = torch.zeros(beams, steps - 1, dtype=torch.long)
            model(encoder_outputs=source, decoder_input_ids=tokens, past_key_values=cache)
        summary_numbers = _numbers_of(cache.self_attention_cache)
    # A product with a weight matrix takes two operations per number of it and per token.
    step_weights = _weight_operations(later) / (2 * beams * (steps - 1))
    source_weights = (_weight_operations(first) - 2 * step_weights) / (2 * tokens_in)
    weights = (source_weights + steps * step_weights) / batch
    # Keys and values of the source are written once and read at every step; of those of the
    # summary, a step writes one position and reads all before it. Logits are written and read.
    cached = source_numbers * (steps + 1) + summary_numbers * (steps + 1) / 2
    logits = 2 * steps * beams * config.vocab_size
    operations = first.get_total_flops() + later.get_total_flops()
    return operations / 1e9, (weights + cached + logits) / 1e9


def measure_device(device: str, dtype: str) -> tuple[float, float]:
    """Measure billions of matrix operations, and GB of memory traffic, per second.

    Bandwidth is that of a copy, each byte counted as read and as written, as STREAM does
    (https://www.cs.virginia.edu/stream/ref.html). Allocates 1 GiB on the device.
    """

    def fastest(statement: str, **values: Any) -> float:  # other processes disturb slower runs
        timer = Timer(statement, globals=values, num_threads=usable_cores())
        return float(min(timer.timeit(1).mean for _ in range(_RUNS)))

    rows = _MATRIX_ROWS[device]
    a, b = (torch.randn(rows, rows, device=device).to(getattr(torch, dtype)) for _ in "ab")
    product_s = fastest("torch.mm(a, b, out=out)", a=a, b=b, out=torch.empty_like(a))
    source = torch.ones(_COPY_BYTES, dtype=torch.uint8, device=device)
    copy_s = fastest("target.copy_(source)", source=source, target=torch.zeros_like(source))
    return 2 * rows**3 / product_s / 1e9, 2 * _COPY_BYTES / copy_s / 1e9


def _weight_operations(counter: FlopCounterMode) -> int:
    """Operations of products with weights; products within attention are batched (``bmm``)."""
    counts = counter.get_flop_counts()["Global"]
    return sum(count for operation, count in counts.items() if "bmm" not in str(operation))


def _numbers_of(cache: Any) -> int:
    return sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
