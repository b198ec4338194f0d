"""The two factors of an estimate: how much work checkpoints hold, and how fast a worker does it.

Chunks are counted as the job itself would cut them; of many products an even sample is counted.
The speed is taken from finished checkpoints at the same workplace, or from a prior.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from reviewsum_assets.checkpoints.manifest import Manifest, Producer
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint, Recipe
from reviewsum_assets.checkpoints.validity import finished_numbers
from reviewsum_assets.compute.base import Capacity
from reviewsum_assets.compute.instances import has_gpus
from reviewsum_assets.errors import ModelError
from reviewsum_assets.job.chunking import Chunk, Chunker, ChunkTokenizer
from reviewsum_assets.job.devices import find_gpus
from reviewsum_assets.job.engines import EngineName, choose_engine
from reviewsum_assets.job.hierarchy import chunks_above, token_limit
from reviewsum_assets.job.models.conversion import conversion_obstacle, read_conversion
from reviewsum_assets.job.models.directory import ReadyModel
from reviewsum_assets.job.models.files import damaged_files
from reviewsum_assets.job.summarizer import CheckpointInput
from reviewsum_assets.job.worker import read_input
from reviewsum_assets.settings import Settings, SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

# The most products of which each one is counted: about ten seconds with any strategy.
_EXACT_PRODUCTS = {"join": 5_000, "hierarchical": 500, "two_sided": 500}
_SAMPLED_CHECKPOINTS = 100
_PARALLEL_READS = 8
_WEIGHTS = (".safetensors", "model.bin")

T = TypeVar("T")


class Work(NamedTuple):
    """Chunks and source tokens; not whole numbers where scaled up."""

    chunks: float
    tokens_in: float

    @classmethod
    def total(cls, parts: Iterable[Work], factor: float = 1.0) -> Work:
        """Return the sum of all parts, multiplied by a factor."""
        chunks, tokens_in = map(sum, zip(cls(0, 0), *parts, strict=True))
        return cls(factor * chunks, factor * tokens_in)


def count_chunks(
    lake: Lake,
    planned: Sequence[PlannedCheckpoint],
    recipe: Recipe,
    model: ReadyModel,
    *,
    summary_tokens: float,
) -> tuple[list[Work], int]:
    """Count the work of checkpoints that follow one recipe.

    Of many products an even sample is counted and scaled up: consecutive checkpoints are alike,
    since products are ordered by their number of reviews.

    Args:
        summary_tokens: Assumed length of each chunk summary, where these are summarized again.

    Returns:
        The work of each checkpoint in order, and the number of products that were counted.

    Raises:
        CheckpointError: Grouped reviews are missing, or not those that were planned.
    """
    exact_products = _EXACT_PRODUCTS[recipe.settings.strategy]
    is_exact = sum(checkpoint.products for checkpoint in planned) <= exact_products
    chosen = planned if is_exact else _evenly(planned, _SAMPLED_CHECKPOINTS)
    tokenizer = _load_tokenizer(lake, recipe, model)
    chunker = Chunker(tokenizer, recipe.settings)
    limit = token_limit(tokenizer, recipe.settings)

    def count(chunks: Sequence[Chunk]) -> Work:
        first, tokens = len(chunks), sum(len(chunk.token_ids) for chunk in chunks)
        if not recipe.settings.joins_summaries or first < 2:
            return Work(first, tokens)
        total = first + sum(chunks_above(first, summary_tokens, limit))
        # Every summary but the last is read once more.
        return Work(total, tokens + (total - 1) * summary_tokens)

    counted: dict[int, Work] = {}
    products_counted = products_chosen = 0
    for source in _inputs(lake, chosen, recipe):
        most = len(source.products) if is_exact else max(1, exact_products // len(chosen))
        products = _evenly(source.products, most)
        cut = (chunker.by_side(product.text) for product in products)
        works = [Work.total(map(count, sides.values())) for sides in cut]
        counted[source.planned.number] = Work.total(works, len(source.products) / len(works))
        products_counted += len(products)
        products_chosen += len(source.products)
    mean = Work.total(counted.values(), 1 / products_chosen)
    return (
        [counted.get(c.number) or Work.total([mean], c.products) for c in planned],
        products_counted,
    )


def _evenly(items: Sequence[T], count: int) -> Sequence[T]:
    """Return at most ``count`` of the items, the same distance apart."""
    if len(items) <= count:
        return items
    return [items[index * len(items) // count] for index in range(count)]


def _inputs(
    lake: Lake, planned: Sequence[PlannedCheckpoint], recipe: Recipe
) -> Iterator[CheckpointInput]:
    """Read the grouped reviews of checkpoints in parallel, a bounded number at a time."""
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        for start in range(0, len(planned), _PARALLEL_READS):
            some = planned[start : start + _PARALLEL_READS]
            yield from pool.map(lambda one: read_input(lake, one, recipe), some)


def _load_tokenizer(lake: Lake, recipe: Recipe, model: ReadyModel) -> ChunkTokenizer:
    """Load the model's tokenizer without fetching its weights."""
    conversion = read_conversion(lake, model.version)
    if conversion is not None and conversion.files:
        prefix, files = places.converted_model_directory(model.version), conversion.files
    else:
        prefix, files = places.model_directory(model.version), model.files
    light = [file for file in files if not file.name.endswith(_WEIGHTS)]
    for key in damaged_files(lake, prefix, light):
        raise ModelError(
            f"{lake.uri_of(key)} is missing or not the file that was published; remove it and "
            "materialize summarizer_model again"
        )
    with tempfile.TemporaryDirectory(prefix="reviewsum-tokenizer-") as scratch:
        for file in light:
            lake.download(f"{prefix}/{file.name}", Path(scratch, file.name))
        encoder_tokens = model.encoder_tokens(recipe.settings)
        return ChunkTokenizer.load(Path(scratch), model.prefix, encoder_tokens)


_PEGASUS_PARAMETERS = 571e6
# A small model is bound by launching its kernels, not by arithmetic.
_SMALLEST_GPU_SCALE = 0.1


class _Prior(NamedTuple):
    """Speed of an engine before anything was measured at its workplace.

    GPU: chunks per second of one A10G with google/pegasus-cnn_dailymail, 300 tokens in and 64 out,
    3 beams. Modelled from 280 GFLOP per chunk against 70 TFLOPS, and from the memory per chunk,
    which limits the batch; not measured: half or twice that is plausible.

    CPU: seconds per chunk of one worker of one thread in float32, a fixed part and a part per
    parameter. Two measurements on two cores of an x86-64 server: the demo model (3.07M parameters)
    over the 629 chunks of its 320 sample products, 236 tokens in and 52 out per chunk, two workers;
    and random weights in the shape of pegasus-cnn_dailymail (571M), 12 chunks of 240 in and 52 out,
    one worker.
    """

    a10g_chunks_per_second: float
    cpu_seconds_fixed: float
    cpu_seconds_per_parameter: float


_PRIORS: dict[EngineName, _Prior] = {
    "ctranslate2": _Prior(100.0, 0.002, 5.3e-9),
    "transformers": _Prior(35.0, 0.050, 6.85e-9),
}

# Importing the libraries took 9 s where the demo model was measured; object stores and network
# disks read weights at 200 MB/s at least.
_LIBRARIES_SECONDS = 9.0
_WEIGHTS_BYTES_PER_SECOND = 200e6

_TOKENS_OUT_PER_CHUNK = 64
_PRIOR_RANGE = (0.5, 2.0)
_LEAST_UNCERTAINTY = 0.2


@dataclass(frozen=True)
class Pace:
    """Expected speed of one worker; ``range`` holds the factors of the low and high end."""

    seconds_per_chunk: float
    tokens_out_per_chunk: float
    load_seconds: float
    range: tuple[float, float]
    on_gpu: bool
    basis: str


def expected_pace(
    lake: Lake, recipe: Recipe, model: ReadyModel, settings: Settings, capacity: Capacity
) -> Pace:
    """Return the pace of a worker that follows ``recipe`` with ``model`` at ``capacity``."""
    if settings.device == "cpu":
        on_gpu = False
    elif capacity.instance_type == "local":
        on_gpu = bool(find_gpus(settings.engine_settings()).usable)
    else:
        on_gpu = all(map(has_gpus, capacity.instance_type.split(" or ")))
    engine = choose_engine(
        settings.engine_settings(),
        recipe.settings,
        conversion_obstacle(read_conversion(lake, model.version)),
    ).name
    workplace = Workplace(
        instance_type=capacity.instance_type,
        device="cuda" if on_gpu else "cpu",
        engine=engine,
        dtype="float32" if settings.dtype == "auto" and not on_gpu else settings.dtype,
        model_version=recipe.model_version,
    )
    return measured_pace(lake, workplace) or _assumed_pace(
        workplace, recipe.settings, model, engine, capacity
    )


def _assumed_pace(
    workplace: Workplace,
    settings: SummarySettings,
    model: ReadyModel,
    engine: EngineName,
    capacity: Capacity,
) -> Pace:
    """Return the pace that is assumed before anything was measured at a workplace."""
    prior = _PRIORS[engine]
    if workplace.on_gpu:
        scale = max(_SMALLEST_GPU_SCALE, model.parameters / _PEGASUS_PARAMETERS)
        seconds = scale / (prior.a10g_chunks_per_second * capacity.gpu_speed)
        source = f"a model of the {capacity.gpu or 'A10G'} that no measurement has confirmed"
    else:
        seconds = prior.cpu_seconds_fixed + model.parameters * prior.cpu_seconds_per_parameter
        source = "measurements on another machine's CPU"
    rate = f"{1 / seconds:,.0f}" if seconds < 0.1 else f"{1 / seconds:.2g}"
    return Pace(
        seconds_per_chunk=seconds,
        tokens_out_per_chunk=min(
            max(_TOKENS_OUT_PER_CHUNK, settings.min_length), settings.max_length
        ),
        load_seconds=_LIBRARIES_SECONDS + model.bytes / _WEIGHTS_BYTES_PER_SECOND,
        range=_PRIOR_RANGE,
        on_gpu=workplace.on_gpu,
        basis=(
            f"no checkpoint done yet on {workplace} with this model: {rate} chunks/s per worker "
            f"assumed for {engine}, from {source}, scaled to "
            f"{model.parameters / 1e6:,.0f}M parameters"
        ),
    )


# Enough for a steady mean; read in less than a second, from S3 too.
_NEWEST_MANIFESTS = 50


@dataclass(frozen=True)
class Workplace:
    """The conditions that decide the speed of a worker."""

    instance_type: str
    device: str  # cpu or cuda
    engine: str  # the chosen one, even if it fails on this device and another takes over
    dtype: str  # auto: that of the newest checkpoint
    model_version: str

    @property
    def on_gpu(self) -> bool:
        """Whether it has GPUs."""
        return self.device == "cuda"

    def __str__(self) -> str:
        return "this machine" if self.instance_type == "local" else self.instance_type

    def made(self, producer: Producer) -> bool:
        """Whether a checkpoint was computed under these conditions."""
        asked = (self.instance_type, self.device, self.engine, self.model_version)
        found = (
            producer.instance_type,
            producer.device.partition(" ")[0],
            producer.failed_engine or producer.engine,
            producer.model_version,
        )
        return asked == found and self.dtype in ("auto", producer.dtype)


def measured_pace(lake: Lake, workplace: Workplace) -> Pace | None:
    """Return the pace of the newest checkpoints of a workplace; None if there are none.

    Chunks whose summaries were reused are no work. The range is two standard errors of the mean.
    """
    made = [m for m in _newest_manifests(lake) if workplace.made(m.producer)]
    done = [
        (m, m.totals.chunks - m.totals.chunks_reused)
        for m in made
        if m.totals.chunks > m.totals.chunks_reused and m.producer.dtype == made[0].producer.dtype
    ]
    if not done:
        return None
    chunks = sum(fresh for _, fresh in done)
    with_reused = sum(m.totals.chunks for m, _ in done)
    mean = sum(m.worker_seconds for m, _ in done) / chunks
    squares = sum(fresh * (m.worker_seconds / fresh - mean) ** 2 for m, fresh in done)
    error = math.sqrt(squares / chunks / max(1, len(done) - 1))
    share = max(_LEAST_UNCERTAINTY, 2 * error / mean if mean else 0)
    plural = "" if len(done) == 1 else "s"
    return Pace(
        seconds_per_chunk=mean,
        tokens_out_per_chunk=sum(m.totals.tokens_out for m, _ in done) / with_reused,
        load_seconds=sum(m.timings.load for m, _ in done) / len(done),
        range=(max(0.0, 1 - share), 1 + share),
        on_gpu=workplace.on_gpu,
        basis=f"{len(done)} checkpoint{plural} done on {workplace} with this model",
    )


def _newest_manifests(lake: Lake) -> Iterator[Manifest]:
    """The readable manifests among those with the highest numbers, highest first."""
    numbers = finished_numbers(lake)[: -_NEWEST_MANIFESTS - 1 : -1]
    for content in lake.get_many([places.checkpoint_manifest(number) for number in numbers]):
        try:
            yield Manifest.unsealed(content or b"")
        except ValueError:
            continue  # an invalid checkpoint is computed again
