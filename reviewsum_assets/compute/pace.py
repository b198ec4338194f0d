"""How fast a worker will be: as finished checkpoints show, before any as measured elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reviewsum_assets.checkpoints.calibration import Calibration, Rate, Workplace, calibrate
from reviewsum_assets.checkpoints.plan import Recipe
from reviewsum_assets.compute.base import Capacity
from reviewsum_assets.compute.instances import has_gpus
from reviewsum_assets.job.devices import find_gpus
from reviewsum_assets.job.engines import EngineName, choose_engine
from reviewsum_assets.job.models.conversion import conversion_obstacle, read_conversion
from reviewsum_assets.job.models.directory import ReadyModel
from reviewsum_assets.settings import Settings, SummarySettings
from reviewsum_assets.storage.lake import Lake

_PEGASUS_PARAMETERS = 571e6
# A small model is bound by launching its kernels, not by arithmetic.
_SMALLEST_GPU_SCALE = 0.1


@dataclass(frozen=True)
class _Prior:
    """One engine's speed before anything was measured at its workplace.

    GPU: chunks a second of one A10G with google/pegasus-cnn_dailymail, 300 tokens in and 64 out, 3
    beams. Modelled from 280 GFLOP a chunk against 70 TFLOPS, and from how much of its memory a
    chunk takes, so how many share a batch; not measured: half or twice that is plausible.

    CPU: seconds a chunk of one worker of one thread in float32, a fixed part and a part by
    parameters. Two measurements on two cores of an x86-64 server: the demo model (3.07M
    parameters) over the 629 chunks of its 320 sample products, 236 tokens in and 52 out a chunk,
    two workers; and random weights in the shape of pegasus-cnn_dailymail (571M), 12 chunks of 240
    in and 52 out, one worker.
    """

    a10g_chunks_a_second: float
    cpu_seconds_fixed: float
    cpu_seconds_a_parameter: float


_PRIORS: dict[EngineName, _Prior] = {
    "ctranslate2": _Prior(100.0, 0.002, 5.3e-9),
    "transformers": _Prior(35.0, 0.050, 6.85e-9),
}

# Importing the libraries took 9 s where the demo model was measured; reading weights at 200 MB/s
# is what object stores and network disks give at least.
_LIBRARIES_SECONDS = 9.0
_WEIGHTS_BYTES_A_SECOND = 200e6

_TOKENS_OUT_A_CHUNK = 64
_PRIOR_RANGE = (0.5, 2.0)
_LEAST_UNCERTAINTY = 0.2


@dataclass(frozen=True)
class Pace:
    """What one worker is expected to need; ``range`` are factors of the low and high end."""

    seconds_per_chunk: float
    seconds_per_token: float | None  # where tokens predict better than chunks
    tokens_out_per_chunk: float
    load_seconds: float
    range: tuple[float, float]
    on_gpu: bool
    basis: str

    def worker_seconds(self, chunks: float, tokens_in: float) -> float:
        """Seconds of tokenizing and generating."""
        if self.seconds_per_token is not None:
            return tokens_in * self.seconds_per_token
        return chunks * self.seconds_per_chunk


def expected_pace(
    lake: Lake, recipe: Recipe, model: ReadyModel, settings: Settings, capacity: Capacity
) -> Pace:
    """The pace of a worker that follows ``recipe`` with ``model`` at ``capacity``."""
    on_gpu = runs_on_gpu(settings, capacity)
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
    calibration = calibrate(lake, workplace)
    place = "this machine" if capacity.instance_type == "local" else capacity.instance_type
    if calibration is None:
        return _prior(recipe.settings, model, engine, place, capacity if on_gpu else None)
    return _calibrated(calibration, place, on_gpu=on_gpu)


def runs_on_gpu(settings: Settings, capacity: Capacity) -> bool:
    """Whether workers get GPUs there; on SageMaker if every type has some."""
    if settings.device == "cpu":
        return False
    if capacity.instance_type == "local":
        return bool(find_gpus(settings.engine_settings()).usable)
    return all(map(has_gpus, capacity.instance_type.split(" or ")))


def _calibrated(calibration: Calibration, place: str, *, on_gpu: bool) -> Pace:
    rates = (calibration.per_chunk, calibration.per_token)
    by_chunk, by_token = (_uncertainty(rate, calibration.checkpoints) for rate in rates)
    uncertainty = max(_LEAST_UNCERTAINTY, min(by_chunk, by_token))
    plural = "" if calibration.checkpoints == 1 else "s"
    return Pace(
        seconds_per_chunk=calibration.per_chunk.mean,
        seconds_per_token=calibration.per_token.mean if by_token < by_chunk else None,
        tokens_out_per_chunk=calibration.tokens_out_per_chunk,
        load_seconds=calibration.load_seconds,
        range=(max(0.0, 1 - uncertainty), 1 + uncertainty),
        on_gpu=on_gpu,
        basis=f"{calibration.checkpoints} checkpoint{plural} done on {place} with this model",
    )


def _uncertainty(rate: Rate, checkpoints: int) -> float:
    """Two standard errors of a mean, as a share of it."""
    return 2 * rate.spread / math.sqrt(checkpoints) / rate.mean if rate.mean else 0.0


def _prior(
    settings: SummarySettings,
    model: ReadyModel,
    engine: EngineName,
    place: str,
    gpus: Capacity | None,
) -> Pace:
    """The pace that is assumed of GPUs, or of a CPU if there are none."""
    prior = _PRIORS[engine]
    if gpus is not None:
        scale = max(_SMALLEST_GPU_SCALE, model.parameters / _PEGASUS_PARAMETERS)
        seconds = scale / (prior.a10g_chunks_a_second * gpus.gpu_speed)
        source = f"a model of the {gpus.gpu or 'A10G'} that no measurement has confirmed"
    else:
        seconds = prior.cpu_seconds_fixed + model.parameters * prior.cpu_seconds_a_parameter
        source = "measurements on another machine's CPU"
    rate = f"{1 / seconds:,.0f}" if seconds < 0.1 else f"{1 / seconds:.2g}"
    return Pace(
        seconds_per_chunk=seconds,
        seconds_per_token=None,
        tokens_out_per_chunk=min(
            max(_TOKENS_OUT_A_CHUNK, settings.min_length), settings.max_length
        ),
        load_seconds=_LIBRARIES_SECONDS + model.bytes / _WEIGHTS_BYTES_A_SECOND,
        range=_PRIOR_RANGE,
        on_gpu=gpus is not None,
        basis=(
            f"no checkpoint done yet on {place} with this model: {rate} chunks/s a worker "
            f"assumed for {engine}, from {source}, scaled to "
            f"{model.parameters / 1e6:,.0f}M parameters"
        ),
    )
