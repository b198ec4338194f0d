"""The engines beside the loop of the replaced script, on the same texts and the same model.

Every contender works end to end, from text to summaries. Contenders alternate, so that a
disturbance of the machine concerns all of them; a ratio is the median of those within one round.

A roofline is the fastest pace at which a device could summarize chunks: work takes at least its
operations at the device's matrix rate, and at least its traffic at the memory's bandwidth
(https://doi.org/10.1145/1498765.1498785). torch counts the operations in one pass of the model,
without data, over the steps of beam search with a cache. Traffic is the least that these steps
need: the encoder reads weights once per batch, the decoder once per token.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import polars as pl
import torch
from pydantic import BaseModel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from reviewsum_assets.bench.contenders import BenchModel, Chunks, Contender, write_shaped_model
from reviewsum_assets.bench.stages import Measurement, crew
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.evaluation.measures import similarity
from reviewsum_assets.job import devices
from reviewsum_assets.job.chunking import ChunkTokenizer
from reviewsum_assets.job.engines import EngineName
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.reviews.dumps import put_sample
from reviewsum_assets.reviews.grouped import scan_grouped
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake

_BASELINE = "predecessor"
_REFERENCE = "transformers-float32"  # the other engines have to agree with it
_DTYPES: dict[str, dict[EngineName, str]] = {
    "cpu": {"transformers": "float32", "ctranslate2": "float32 int8"},
    "cuda": {"transformers": "float32 bfloat16", "ctranslate2": "float32 bfloat16 float16 int8"},
}
_BYTES_PER_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}
_PRODUCTS_READ = 1_000
_WORDS_PER_CHUNK = 150
# Large enough for the full rate: 17 GFLOP on a CPU, 1.1 TFLOP on a GPU.
_MATRIX_ROWS = {"cpu": 2048, "cuda": 8192}
_COPY_BYTES = 2**29  # larger than the last cache of any processor


@dataclass(frozen=True)
class EngineOptions:
    """The choices of a user, as options of the command; settings of the environment hold too."""

    dumps: Sequence[str] = ()
    model: str = "demo"
    shape: str = ""
    products: int = 20
    repeats: int = 3
    compared_chunks: int = 2_000
    output_tokens: int | None = None
    device: str = "cpu"
    batch_tokens: Sequence[int] = ()
    processes: int = 0


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
        gigabytes = _BYTES_PER_NUMBER[dtype] * cost[1]
        arithmetic_s, memory_s = cost[0] / rates[0], gigabytes / rates[1]
        return cls(
            gflop_per_chunk=cost[0],
            mb_per_chunk=gigabytes * 1e3,
            device_gflops=rates[0],
            device_gb_per_s=rates[1],
            bound_chunks_per_s=1 / max(arithmetic_s, memory_s),
            bound_by="arithmetic" if arithmetic_s >= memory_s else "memory",
        )


class EngineResult(BaseModel):
    """One contender. Rates are medians of the turns; ``peak_mb`` is the sum of its processes.

    ``agreement`` is the share of compared summaries that equal those of transformers in float32;
    ``rouge_l`` compares the same, ``rouge_l_to_baseline`` the timed ones with the predecessor's.
    """

    name: str
    processes: int
    threads: int
    batch_tokens: int
    settled_tokens: int  # source tokens per batch at the end: fewer where memory ran out
    chunks_per_s: float
    tokens_per_s: float
    ratio_to_baseline: float
    ratios: list[float]
    peak_mb: float
    agreement: float | None
    rouge_l: float | None
    rouge_l_to_baseline: float | None
    roofline_share: float | None


class Measured(BaseModel):
    """The work that was measured; tokens are means per chunk."""

    products: int
    chunks: int
    tokens_in: float
    tokens_out: float
    repeats: int
    compared_chunks: int


class EngineResults(BaseModel):
    """All contenders; rooflines by number type; chunks that float32 engines summarize otherwise."""

    measured: Measured | None = None
    baseline: EngineResult | None = None
    engines: list[EngineResult] = []
    rooflines: dict[str, Roofline] = {}
    differing: list[str] = []


def prepare(
    options: EngineOptions, directory: Path
) -> tuple[EngineOptions, BenchModel, Sequence[str]]:
    """Make the model ready, and read texts of products, on a lake under ``directory``.

    Raises:
        ReviewsumError: shape, device, dumps or model cannot be used, or be converted.
    """
    name, lengths = options.model, {}
    if options.shape:
        name = str(directory / "shaped_model")
        write_shaped_model(Path(name), options.shape)
    if (tokens := options.output_tokens) is not None:  # lengths count the start and the end token
        lengths = {"max_length": tokens + 2, "min_length": tokens + 1}
    root = directory / "lake"
    chosen = {"dumps": tuple(options.dumps), "model": name, "device": options.device}
    settings = load_settings(lake=str(root), **chosen, **lengths)
    lake = Lake.open(settings.lake)
    put_sample(lake, settings)
    model, _ = ready_model(lake, settings)
    converted = ensure_converted(lake, model)
    if not converted.files:
        raise BenchmarkError(f"there is only one engine to measure: {converted.obstacle}")
    grouped, _ = group_reviews(lake, settings)
    ranked = scan_grouped(lake, grouped).filter(pl.col("all_reviews").str.len_chars() > 0)
    ranked = ranked.sort("review_count", "product_id", descending=[True, False])
    texts = ranked.head(_PRODUCTS_READ).select("all_reviews").collect()["all_reviews"].to_list()
    workers = devices.worker_devices(settings, model.parameters)
    usual = workers[0].tokens_per_batch(settings, settings.chunk_tokens)
    processes = options.processes or (len(workers) if options.device == "cpu" else 1)
    options = replace(options, batch_tokens=options.batch_tokens or (usual,), processes=processes)
    made = model.prefix, settings.summary_settings(), options.device
    return options, BenchModel(root / model.folder, root / converted.folder, *made), texts


def engine_results(
    options: EngineOptions, model: BenchModel, texts: Sequence[str], on_step: Callable[[str], None]
) -> EngineResults:
    """Measure every contender; raises BenchmarkError if one fails."""
    contenders, tokenizer = contenders_of(options), model.tokenizer()
    timed, others = texts[: options.products], other_texts(texts, options.compared_chunks)
    turns: dict[str, list[Measurement]] = defaultdict(list)
    summaries: dict[str, Chunks] = {}
    for turn in range(1, options.repeats + 1):
        for one in list(contenders):
            on_step(f"turn {turn} of {options.repeats}: {one.name}")
            try:
                with crew(one.name, one.processes, partial(one.loop, model)) as run:
                    _run(run, one.processes, ["It works."] * one.processes)  # warms up
                    turns[one.name].append(_run(run, one.processes, timed))
                    if turn == 1 and others and one.engine:
                        summaries[one.name] = _run(run, one.processes, others).value[0]
            except BenchmarkError as error:
                if one.engine is None or turn > 1:
                    raise
                on_step(f"{one.name} is left out: {error}")  # the device may lack a number type
                contenders.remove(one)
    first: Chunks = turns[_BASELINE][0].value[0]
    tokens_in, tokens_out = (mean(map(len, tokens)) for tokens in zip(*first, strict=True))
    on_step("rates of the device")
    batch, lengths = max(options.batch_tokens) / tokens_in, (round(tokens_in), round(tokens_out))
    cost = chunk_cost(model.directory, *lengths, model.settings.num_beams, max(1, round(batch)))
    dtypes = sorted({one.dtype for one in contenders} & set(_BYTES_PER_NUMBER))
    bounds = {
        dtype: Roofline.of(cost, dtype, measure_device(options.device, dtype)) for dtype in dtypes
    }
    reference = next((c for name, c in summaries.items() if name.startswith(_REFERENCE)), [])
    differing: list[str] = []
    results: list[EngineResult] = []
    for one in contenders:
        own, paces, of_baseline = turns[one.name], _paces(turns[one.name]), _paces(turns[_BASELINE])
        ratios = [pace / other for pace, other in zip(paces, of_baseline, strict=True)]
        chunks, pace, bound = own[0].value[0], median(paces), bounds.get(one.dtype)
        share, rouge_l, pairs = agreement(tokenizer, reference, summaries.get(one.name, []))
        if one.dtype == "float32":
            differing += [f"{one.name}, {pair}" for pair in pairs]
        result = EngineResult(
            **one._asdict(),
            settled_tokens=min(turn.value[1] for turn in own),
            chunks_per_s=pace,
            tokens_per_s=pace * mean(len(ids) + len(summary) for ids, summary in chunks),
            ratio_to_baseline=median(ratios),
            ratios=ratios,
            peak_mb=max(turn.peak_mb for turn in own),
            agreement=share,
            rouge_l=rouge_l,
            rouge_l_to_baseline=agreement(tokenizer, first, chunks)[1],
            roofline_share=pace / bound.bound_chunks_per_s if bound else None,
        )
        results.append(result)
    measured = Measured(
        products=len(timed), chunks=len(first), tokens_in=tokens_in, tokens_out=tokens_out,
        repeats=options.repeats, compared_chunks=len(dict(reference)),
    )  # fmt: skip
    return EngineResults(
        measured=measured, baseline=results[0], engines=results[1:], rooflines=bounds,
        differing=differing,
    )  # fmt: skip


def contenders_of(options: EngineOptions) -> list[Contender]:
    """Return the baseline, and the engines of the device."""
    cores, processes = devices.usable_cores(), options.processes
    found = [Contender(_BASELINE, None, "float32", 1, cores, 0)]
    for tokens in options.batch_tokens:
        suffix = f"-{tokens}" if len(options.batch_tokens) > 1 else ""
        for engine, dtypes in _DTYPES[options.device].items():
            names = [(f"{engine}-{dtype}{suffix}", engine, dtype) for dtype in dtypes.split()]
            found += [Contender(*n, processes, max(1, cores // processes), tokens) for n in names]
    return found


def other_texts(texts: Sequence[str], count: int) -> list[str]:
    """Return different texts that are a chunk each, from far beyond the first characters."""
    step, words = _WORDS_PER_CHUNK, " ".join(texts).split()
    starts = (n for shift in range(0, step, step // 10) for n in range(shift, len(words), step))
    return list(dict.fromkeys(" ".join(words[n : n + step]) for n in starts))[:count]


def agreement(
    tokenizer: ChunkTokenizer, reference: Chunks, other: Chunks
) -> tuple[float | None, float | None, list[str]]:
    """Compare the summaries of common chunks: share of equals, mean ROUGE-L F1, and the others."""
    expected, scores, differing = dict(reference), [], []
    for ids, summary in dict(other).items():
        if ids in expected:
            wanted, found = tokenizer.decode(expected[ids]), tokenizer.decode(summary)
            scores.append(1.0 if found == wanted else similarity(wanted, found))
            if found != wanted:
                differing.append(f"{len(ids)} tokens:\n  {wanted}\n  {found}")
    if not scores:
        return None, None, []
    return 1 - len(differing) / len(scores), mean(scores), differing


def _run(
    run: Callable[..., list[Measurement]], processes: int, texts: Sequence[str]
) -> Measurement:
    """Deal texts among the processes by length; seconds are those of the slowest process."""
    ranked = sorted(texts, key=len, reverse=True)
    found = run(*([ranked[number::processes]] for number in range(processes)))
    chunks = [chunk for one in found for chunk in one.value[0]]
    value = chunks, min(one.value[1] for one in found)
    return Measurement(max(one.seconds for one in found), sum(m.peak_mb for m in found), value)


def _paces(turns: Sequence[Measurement]) -> list[float]:
    return [len(turn.value[0]) / turn.seconds for turn in turns]


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
        timer = Timer(statement, globals=values, num_threads=devices.usable_cores())
        return float(min(timer.timeit(1).mean for _ in range(3)))

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
