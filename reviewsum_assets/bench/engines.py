"""The engines against the predecessor's loop, on the same texts and the same model.

Contenders take turns, so that a machine that slows down slows all of them; a ratio is the median
of the ratios within a turn.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.bench.agreement import Agreement, agreement
from reviewsum_assets.bench.contenders import (
    BASELINE,
    BenchModel,
    Contender,
    Round,
    RunningContender,
)
from reviewsum_assets.bench.device_rates import DeviceRates, measure_device
from reviewsum_assets.bench.roofline import Roofline, Workload, roofline
from reviewsum_assets.bench.texts import different_chunks
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.devices import fitting_workers, usable_cores, worker_devices
from reviewsum_assets.job.engines import EngineName
from reviewsum_assets.settings import EngineSettings

# What the others have to agree with: one chunk alone or many in a batch, it is the same to it.
_REFERENCE = "transformers-float32"
_ONE_PROCESS = "1-process"
_ENGINES: Mapping[str, Sequence[tuple[EngineName, str]]] = {
    "cpu": (("transformers", "float32"), ("ctranslate2", "float32"), ("ctranslate2", "int8")),
    "cuda": (
        ("transformers", "float32"),
        ("transformers", "bfloat16"),
        ("ctranslate2", "float32"),
        ("ctranslate2", "bfloat16"),
        ("ctranslate2", "float16"),
        ("ctranslate2", "int8"),
    ),
}
_BYTES_A_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class EngineBench:
    """What is measured, and how thoroughly.

    Args:
        model: to generate with, on one device.
        parameters: of the model.
        texts: of products, those with most reviews first.
        products: that every turn summarizes.
        repeats: turns.
        compared_chunks: different chunks that each engine summarizes once to be compared.
        batch_tokens: source tokens a batch; every engine is measured at each.
        processes: replicas of each engine, which share the device; 0: as in a job.
    """

    model: BenchModel
    parameters: int
    texts: Sequence[str]
    products: int
    repeats: int
    compared_chunks: int
    batch_tokens: Sequence[int]
    processes: int = 0


class EngineResult(BaseModel):
    """One contender. Rates are medians of the turns, ``peak_mb`` is of all its processes.

    ``agreement`` is the share of chunks, of those compared, whose summary equals that of
    transformers in float32; ``rouge_l`` is against the same, ``rouge_l_to_baseline`` is that of the
    timed chunks against the predecessor's, which did not renormalize.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    processes: int
    threads: int
    batch_tokens: int
    settled_tokens: int  # source tokens per batch at the end: fewer where memory ran out
    chunks_per_s: float
    tokens_per_s: float
    ratio_to_baseline: float
    ratios: tuple[float, ...]
    peak_mb: float
    agreement: float | None = None
    rouge_l: float | None = None
    rouge_l_to_baseline: float | None = None
    roofline_share: float | None = None


class Measured(BaseModel):
    """What the contenders were measured on; tokens are means a chunk."""

    model_config = ConfigDict(frozen=True)

    products: int
    chunks: int
    tokens_in: float
    tokens_out: float
    repeats: int
    compared_chunks: int


class EngineBenchResult(BaseModel):
    """All contenders; ``rooflines`` by number type, for all threads of the device together.

    ``differing`` shows the chunks that float32 engines summarize differently.
    """

    model_config = ConfigDict(frozen=True)

    measured: Measured
    baseline: EngineResult
    engines: tuple[EngineResult, ...]
    rooflines: dict[str, Roofline]
    differing: tuple[str, ...]


def engine_results(bench: EngineBench, on_turn: Callable[[str], None]) -> EngineBenchResult:
    """Measure every contender.

    Args:
        bench: what to measure.
        on_turn: told what is being done.

    Raises:
        BenchmarkError: a contender failed.
    """
    contenders = _contenders(bench)
    texts = bench.texts[: bench.products]
    rates: dict[str, DeviceRates] = {}
    with ExitStack() as stack:
        field = _Field(stack, bench, contenders)
        turns: dict[str, list[Round]] = {contender.name: [] for contender in contenders}
        for turn in range(bench.repeats):
            on_turn(f"turn {turn + 1} of {bench.repeats}: rates of the device")
            for dtype in sorted({c.dtype for c in contenders} & set(_BYTES_A_NUMBER)):
                found = measure_device(bench.model.device, dtype, usable_cores())
                rates[dtype] = _best(found, rates.get(dtype, found))
            for contender in list(contenders):
                on_turn(f"turn {turn + 1} of {bench.repeats}: {contender.name}")
                try:
                    turns[contender.name].append(field.run(contender, texts))
                except BenchmarkError as error:
                    if contender.engine is None or turn:
                        raise
                    # A device need not have every type of number.
                    on_turn(f"{contender.name} is left out: {error}")
                    contenders.remove(contender)
        compared = _compared(field, bench, contenders, on_turn)
    first = turns[BASELINE][0]
    config = json.loads((bench.model.directory / "config.json").read_bytes())
    tokens_in = statistics.mean(len(chunk.token_ids) for chunk in first.chunks)
    tokens_out = statistics.mean(chunk.tokens_out for chunk in first.chunks)
    rooflines = {
        dtype: roofline(
            config,
            Workload(
                tokens_in=round(tokens_in),
                tokens_out=round(tokens_out),
                beams=bench.model.settings.num_beams,
                batch=max(1, round(max(bench.batch_tokens) / tokens_in)),
                bytes_per_number=_BYTES_A_NUMBER[dtype],
            ),
            rate,
        )
        for dtype, rate in rates.items()
    }
    results = [
        _result(contender, turns, compared.get(contender.name), rooflines.get(contender.dtype))
        for contender in contenders
    ]
    return EngineBenchResult(
        measured=Measured(
            products=len(texts),
            chunks=len(first.chunks),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            repeats=bench.repeats,
            compared_chunks=max((c.chunks for c in compared.values()), default=0),
        ),
        baseline=results[0],
        engines=tuple(results[1:]),
        rooflines=rooflines,
        differing=tuple(
            text
            for name, found in compared.items()
            if name.endswith("float32")
            for text in found.differing
        ),
    )


class _Field:
    """The contenders, all loaded at once if memory allows, else one at a time."""

    def __init__(
        self, stack: ExitStack, bench: EngineBench, contenders: Sequence[Contender]
    ) -> None:
        self._model = bench.model
        processes = sum(contender.processes for contender in contenders)
        fits = processes <= fitting_workers(bench.parameters)
        self._running: Mapping[str, RunningContender] = {
            contender.name: stack.enter_context(RunningContender(contender, bench.model))
            for contender in (contenders if fits and bench.model.device == "cpu" else ())
        }

    def run(self, contender: Contender, texts: Sequence[str]) -> Round:
        if contender.name in self._running:
            return self._running[contender.name].run(texts)
        with RunningContender(contender, self._model) as running:
            return running.run(texts)


def _contenders(bench: EngineBench) -> list[Contender]:
    """The baseline first, then the engines, in the layout that a job would choose."""
    cores, device = usable_cores(), bench.model.device
    processes, threads = 1, cores
    if device == "cpu":
        workers = worker_devices(EngineSettings(device="cpu"), bench.parameters)
        processes, threads = len(workers), workers[0].threads
    if bench.processes:
        processes, threads = bench.processes, max(1, cores // bench.processes)
    found = [Contender(BASELINE, None, "float32", 1, cores, 0)]
    for tokens in bench.batch_tokens:
        suffix = f"-{tokens}" if len(bench.batch_tokens) > 1 else ""
        found += [
            Contender(f"{engine}-{dtype}{suffix}", engine, dtype, processes, threads, tokens)
            for engine, dtype in _ENGINES[device]
        ]
        if processes > 1:
            name = f"{_REFERENCE}{suffix}-{_ONE_PROCESS}"
            found.append(Contender(name, "transformers", "float32", 1, cores, tokens))
    return found


def _compared(
    field: _Field,
    bench: EngineBench,
    contenders: Sequence[Contender],
    on_turn: Callable[[str], None],
) -> dict[str, Agreement]:
    """How far each engine agrees with the reference, on more chunks than are timed."""
    if not bench.compared_chunks:
        return {}
    model = bench.model
    chunks = different_chunks(model.directory, model.prefix, model.settings, bench.texts)
    texts = [text for _, text in zip(range(bench.compared_chunks), chunks, strict=False)]
    found: dict[str, Agreement] = {}
    reference: Round | None = None
    for contender in sorted(contenders, key=lambda one: not one.name.startswith(_REFERENCE)):
        if contender.engine is None or contender.name.endswith(_ONE_PROCESS):
            continue  # how threads are shared changes no word
        on_turn(f"agreement on {len(texts):,} chunks: {contender.name}")
        round_ = field.run(contender, texts)
        reference = reference or round_
        found[contender.name] = agreement(contender.name, reference.chunks, round_.chunks)
    return found


def _result(
    contender: Contender,
    turns: Mapping[str, Sequence[Round]],
    compared: Agreement | None,
    bound: Roofline | None,
) -> EngineResult:
    own, baseline = turns[contender.name], turns[BASELINE]
    ratios = tuple(
        one.chunks_per_s / other.chunks_per_s for one, other in zip(own, baseline, strict=True)
    )
    rate = statistics.median(one.chunks_per_s for one in own)
    tokens = statistics.mean(len(chunk.token_ids) + chunk.tokens_out for chunk in own[0].chunks)
    to_baseline = agreement(contender.name, baseline[0].chunks, own[0].chunks)
    return EngineResult(
        name=contender.name,
        processes=contender.processes,
        threads=contender.threads,
        batch_tokens=contender.batch_tokens,
        settled_tokens=min(one.batch_tokens for one in own),
        chunks_per_s=rate,
        tokens_per_s=rate * tokens,
        ratio_to_baseline=statistics.median(ratios),
        ratios=ratios,
        peak_mb=max(one.peak_mb for one in own),
        agreement=None if compared is None else compared.identical_share,
        rouge_l=None if compared is None else compared.rouge_l,
        rouge_l_to_baseline=to_baseline.rouge_l,
        roofline_share=None if bound is None else bound.share_reached(rate),
    )


def _best(one: DeviceRates, other: DeviceRates) -> DeviceRates:
    """What the device can do, as far as its neighbours let it."""
    return DeviceRates(max(one.gflops, other.gflops), max(one.gb_per_s, other.gb_per_s))
