"""Gets a benchmark of the engines its reviews and its model, on a lake of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from reviewsum_assets.bench.contenders import BenchModel
from reviewsum_assets.bench.engines import EngineBench
from reviewsum_assets.bench.shaped_model import SHAPES, write_shaped_model
from reviewsum_assets.demo import SAMPLE_DUMP, SAMPLE_DUMP_NAME
from reviewsum_assets.errors import BenchmarkError
from reviewsum_assets.job.devices import Gpus, find_gpus
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.reviews.grouping import group_reviews, scan_grouped
from reviewsum_assets.settings import EngineSettings, Settings, load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

# Enough to choose from, and little to hold.
_PRODUCTS_READ = 1_000


@dataclass(frozen=True)
class EngineBenchOptions:
    """What a user can choose; settings of the environment hold for the rest.

    Args:
        dumps: of reviews; none: the sample dump.
        model: as the setting of that name.
        shape: name of a shape in ``SHAPES``: a random model of it in place of ``model``.
        products: that every turn summarizes, those with most reviews.
        repeats: turns.
        compared_chunks: that each engine summarizes once to be compared.
        output_tokens: that every chunk summary has exactly; None: as the settings have it.
        device: ``cpu`` or ``cuda``.
        batch_tokens: source tokens a batch, several to be compared; none: those of a job.
        processes: replicas of each engine on the device; 0: as in a job.
    """

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


def prepared(options: EngineBenchOptions, directory: Path) -> EngineBench:
    """Read the reviews and make the model ready, under ``directory``.

    Raises:
        BenchmarkError: there is no such shape or device, or the model cannot be converted.
        ReviewsumError: dumps or model cannot be used; says why.
    """
    if options.device not in ("cpu", "cuda"):
        raise BenchmarkError(f"no device {options.device!r}: there are cpu and cuda")
    gpus = find_gpus(EngineSettings()) if options.device == "cuda" else Gpus()
    if options.device == "cuda" and not gpus.usable:
        raise BenchmarkError(f"there is no GPU to use: {gpus.problem or 'no driver shows one'}")
    settings = _settings(options, directory)
    lake = Lake.open(settings.lake)
    if not settings.dumps:
        lake.put_file(f"{places.REVIEW_DUMPS}/{SAMPLE_DUMP_NAME}", SAMPLE_DUMP)
    model, _ = ready_model(lake, settings)
    conversion = ensure_converted(lake, model)
    if not conversion.files:
        raise BenchmarkError(f"there is only one engine to measure: {conversion.obstacle}")
    assert lake.directory is not None
    gpu_gib = gpus.usable[0].memory_gib if gpus.usable else None
    return EngineBench(
        model=BenchModel(
            directory=lake.directory / places.model_directory(model.version),
            converted=lake.directory / places.converted_model_directory(model.version),
            prefix=model.prefix,
            settings=settings.summary_settings(),
            device=options.device,
        ),
        parameters=model.parameters,
        texts=_texts(lake, settings),
        products=options.products,
        repeats=options.repeats,
        compared_chunks=options.compared_chunks,
        processes=options.processes,
        batch_tokens=options.batch_tokens
        or (settings.tokens_per_batch(settings.chunk_tokens, gpu_gib),),
    )


def _settings(options: EngineBenchOptions, directory: Path) -> Settings:
    model = options.model
    if options.shape:
        if options.shape not in SHAPES:
            raise BenchmarkError(f"no shape {options.shape!r}: there are {', '.join(SHAPES)}")
        shaped = directory / "shaped_model"
        write_shaped_model(shaped, SHAPES[options.shape])
        model = str(shaped)
    lengths = {}
    if options.output_tokens is not None:
        # Both count the start token and the end token.
        lengths = {
            "max_length": options.output_tokens + 2,
            "min_length": options.output_tokens + 1,
        }
    return load_settings(
        lake=str(directory / "lake"), dumps=tuple(options.dumps), model=model, **lengths
    )


def _texts(lake: Lake, settings: Settings) -> list[str]:
    grouped, _ = group_reviews(lake, settings)
    ranked = (
        scan_grouped(lake, grouped)
        .filter(pl.col("all_reviews").str.len_chars() > 0)
        .sort("review_count", "product_id", descending=[True, False])
        .head(_PRODUCTS_READ)
        .select("all_reviews")
    )
    texts: list[str] = ranked.collect()["all_reviews"].to_list()
    return texts
