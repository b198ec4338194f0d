"""A model as a worker holds it: a chunker for what comes next, an engine for what is there.

They are loaded apart, so that one thread can read and cut while another generates.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reviewsum_assets import places
from reviewsum_assets.checkpoints.canary_reference import record_reference
from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.checkpoints.plan import Recipe
from reviewsum_assets.errors import LakeError
from reviewsum_assets.job.canaries import canary_summaries
from reviewsum_assets.job.chunking import Chunker
from reviewsum_assets.job.conversion import (
    conversion_obstacle,
    local_conversion,
    read_conversion,
)
from reviewsum_assets.job.devices import WorkerDevice
from reviewsum_assets.job.engines import EngineName, load_engine
from reviewsum_assets.job.engines.base import Engine
from reviewsum_assets.job.engines.choice import choose_engine
from reviewsum_assets.job.hierarchy import summary_joiner
from reviewsum_assets.job.model_directory import local_model_directory, read_ready_model
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.summarizer import Summarizer
from reviewsum_assets.job.tokenization import ChunkTokenizer
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import EngineSettings

_log = logging.getLogger("reviewsum.job")


@dataclass(frozen=True)
class WorkerOptions:
    """What one worker is given at its start."""

    spec: JobSpec
    device: WorkerDevice
    instance_type: str


def files_prefix(lake: Lake, recipe: Recipe, engine: EngineSettings) -> str:
    """Where on the lake the files lie that the chosen engine reads."""
    obstacle = conversion_obstacle(read_conversion(lake, recipe.model_version))
    if choose_engine(engine, recipe.settings, obstacle).name == "transformers":
        return places.model_directory(recipe.model_version)
    return places.converted_model_directory(recipe.model_version)


@dataclass(frozen=True)
class RecipeReader:
    """Cuts texts as one recipe wants it; knows where the engine's files are."""

    recipe: Recipe
    engine: EngineName
    directory: Path
    tokenizer: ChunkTokenizer
    chunker: Chunker
    load_seconds: float

    @classmethod
    def load(cls, lake: Lake, recipe: Recipe, spec: JobSpec) -> RecipeReader:
        """Choose the engine, get its files, load the tokenizer.

        Raises:
            SettingsError: the engine that is asked for cannot be used.
            ModelError: files are missing, or not those that were published.
        """
        started = time.monotonic()
        conversion = read_conversion(lake, recipe.model_version)
        choice = choose_engine(spec.engine, recipe.settings, conversion_obstacle(conversion))
        if conversion is not None and choice.name == "ctranslate2":
            directory = local_conversion(lake, conversion, _model_cache(), _provided(spec))
        else:
            _log.info("engine transformers: %s", choice.reason)
            directory = _model_files(lake, recipe, spec)
        prefix = read_ready_model(lake, recipe.model_version).prefix
        tokenizer = ChunkTokenizer.load(directory, prefix, recipe.settings.encoder_tokens)
        return cls(
            recipe=recipe,
            engine=choice.name,
            directory=directory,
            tokenizer=tokenizer,
            chunker=Chunker(tokenizer, recipe.settings),
            load_seconds=time.monotonic() - started,
        )


@dataclass(frozen=True)
class LoadedModel:
    """An engine that generates for one recipe, and what its manifests say of it."""

    recipe: Recipe
    summarizer: Summarizer
    producer: Producer
    load_seconds: float

    @classmethod
    def load(
        cls,
        lake: Lake,
        reader: RecipeReader,
        options: WorkerOptions,
        on_generated: Callable[[int, int, float], None],
    ) -> LoadedModel:
        """Load the engine and ask it for canary summaries; ``on_generated`` is the summarizer's."""
        started = time.monotonic()
        engine = _load_engine(lake, reader, options)
        info = engine.describe()
        spec, settings = options.spec, reader.recipe.settings
        batch_tokens = spec.engine.tokens_per_batch(
            settings.chunk_tokens, on_gpu=options.device.gpu is not None
        )
        producer = Producer(
            job_name=spec.name,
            host=socket.gethostname(),
            instance_type=options.instance_type,
            engine=info.name,
            device=info.device,
            dtype=info.dtype,
            model_version=reader.recipe.model_version,
            package_versions={"reviewsum_assets": spec.package_version, **info.versions},
            canary_summaries=(
                canary_summaries(engine, reader.tokenizer) if spec.engine.canary else {}
            ),
        )
        _record(lake, reader.recipe, producer)
        return cls(
            reader.recipe,
            Summarizer(
                engine,
                reader.tokenizer,
                batch_tokens,
                on_generated,
                summary_joiner(reader.tokenizer, settings),
            ),
            producer,
            reader.load_seconds + time.monotonic() - started,
        )


def _record(lake: Lake, recipe: Recipe, producer: Producer) -> None:
    """Make this worker's canary summaries the reference, if it is the first to have any."""
    if not producer.canary_summaries:
        return
    try:
        record_reference(lake, recipe.key, producer)
    except LakeError as error:
        # Whatever is compared with it later, the summaries themselves do not need it.
        _log.warning("the canary summaries are no reference for other jobs: %s", error)


def _load_engine(lake: Lake, reader: RecipeReader, options: WorkerOptions) -> Engine:
    asked = options.spec.engine
    device = "cpu" if options.device.gpu is None else "cuda"

    def load(name: EngineName, directory: Path) -> Engine:
        return load_engine(
            name,
            directory,
            reader.recipe.settings,
            device=device,
            dtype=asked.dtype,
            threads=options.device.threads,
        )

    if reader.engine == "transformers" or asked.engine != "auto" or asked.dtype == "int8":
        return load(reader.engine, reader.directory)
    try:
        return load(reader.engine, reader.directory)
    except Exception as error:
        # A container's CUDA may not be the one that CTranslate2 was built for: a slow job is
        # better than one that ends here, minutes after its instances were got.
        _log.warning("%s cannot be loaded, transformers takes over: %s", reader.engine, error)
        return load("transformers", _model_files(lake, reader.recipe, options.spec))


def _model_files(lake: Lake, recipe: Recipe, spec: JobSpec) -> Path:
    return local_model_directory(lake, recipe.model_version, _model_cache(), _provided(spec))


def _provided(spec: JobSpec) -> Path | None:
    return None if spec.provided is None else Path(spec.provided.model)


def _model_cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "reviewsum", "models")
