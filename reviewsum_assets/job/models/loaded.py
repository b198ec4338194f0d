"""A model in a worker: a reader that cuts texts of one recipe, and an engine that generates.

They are loaded separately, so that one thread can read and cut while another generates.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reviewsum_assets.checkpoints.manifest import Producer, record_reference
from reviewsum_assets.checkpoints.plan import Recipe
from reviewsum_assets.errors import JobError, LakeError, SettingsError, UnfitModelError
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.job.devices import WorkerDevice
from reviewsum_assets.job.engines import EngineChoice, EngineName, choose_engine, load_engine
from reviewsum_assets.job.engines.base import (
    CANARY_TEXTS,
    Engine,
    EngineOutOfMemory,
    canary_key,
    is_out_of_memory,
)
from reviewsum_assets.job.hierarchy import summary_joiner
from reviewsum_assets.job.models.conversion import conversion_obstacle, read_conversion
from reviewsum_assets.job.models.directory import read_ready_model
from reviewsum_assets.job.models.fit import refuse_tokens_beyond
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.summarizer import Summarizer
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

_log = logging.getLogger("reviewsum.job")


@dataclass(frozen=True)
class WorkerOptions:
    """Options of one worker; ``instance_type`` is for the manifests."""

    spec: JobSpec
    device: WorkerDevice
    instance_type: str


def files_prefix(lake: Lake, recipe: Recipe, engine: EngineSettings) -> str:
    """Return the prefix of the files that the chosen engine reads."""
    obstacle = conversion_obstacle(read_conversion(lake, recipe.model_version))
    if choose_engine(engine, recipe.settings, obstacle).name == "transformers":
        return places.model_directory(recipe.model_version)
    return places.converted_model_directory(recipe.model_version)


@dataclass(frozen=True)
class RecipeReader:
    """Cuts texts for one recipe; has the files of the chosen engine."""

    recipe: Recipe
    choice: EngineChoice
    directory: Path
    tokenizer: ChunkTokenizer
    chunker: Chunker
    load_seconds: float

    @classmethod
    def load(cls, lake: Lake, recipe: Recipe, spec: JobSpec) -> RecipeReader:
        """Choose the engine, get its files, load the tokenizer.

        Raises:
            SettingsError: The requested engine cannot be used.
            ModelError: Files are missing, or are not those that were published.
            UnfitModelError: The tokenizer has more tokens than the model.
        """
        started = time.monotonic()
        conversion = read_conversion(lake, recipe.model_version)
        choice = choose_engine(spec.engine, recipe.settings, conversion_obstacle(conversion))
        model = read_ready_model(lake, recipe.model_version)
        if conversion is not None and choice.name == "ctranslate2":
            directory = conversion.local_copy(lake, _provided(spec))
        else:
            _log.info("engine transformers: %s", choice.reason)
            directory = model.local_copy(lake, _provided(spec))
        encoder_tokens = model.encoder_tokens(recipe.settings)
        tokenizer = ChunkTokenizer.load(directory, model.prefix, encoder_tokens)
        refuse_tokens_beyond(model.source, tokenizer.ids(), model.vocabulary)
        chunker = Chunker(tokenizer, recipe.settings)
        return cls(recipe, choice, directory, tokenizer, chunker, time.monotonic() - started)


@dataclass(frozen=True)
class LoadedModel:
    """An engine for one recipe that has generated a first batch, and its record for manifests."""

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
        """Load the chosen engine, or transformers where that one cannot work on the device.

        Some causes appear only with the first batch: a missing library, a GPU that the engine was
        not built for. A slow job is better than one that ends minutes after its instances started.

        Raises:
            SettingsError: The device cannot compute in the requested type.
            JobError: The engine cannot be loaded on the device.
            UnfitModelError: Weights are missing, or not those of the model.
        """
        started = time.monotonic()
        spec, recipe, choice, failed = options.spec, reader.recipe, reader.choice, ""
        try:
            try:
                engine, canaries = _first_batch(reader, options, choice.name, reader.directory)
            except (EngineOutOfMemory, SettingsError, UnfitModelError):
                raise
            except Exception as error:
                may_fall_back = spec.engine.engine == "auto" and spec.engine.dtype != "int8"
                if choice.name == "transformers" or not may_fall_back:
                    raise
                failed = choice.name
                choice = EngineChoice(
                    "transformers",
                    f"{failed} could not be loaded, or failed on its first batch: "
                    f"{type(error).__name__}: {error}",
                )
                _log.warning("%s; using transformers, several times slower", choice.reason)
                model = read_ready_model(lake, recipe.model_version)
                directory = model.local_copy(lake, _provided(spec))
                engine, canaries = _first_batch(reader, options, choice.name, directory)
        except EngineOutOfMemory as error:
            raise JobError(
                f"the model and four short texts do not fit into the memory of {options.device}: "
                f"{error}. To fix: end other processes that use the device"
            ) from error
        info = engine.describe()
        producer = Producer(
            job_name=spec.name,
            host=socket.gethostname(),
            instance_type=options.instance_type,
            engine=info.name,
            engine_reason=choice.reason,
            failed_engine=failed,
            device=info.device,
            dtype=info.dtype,
            model_version=recipe.model_version,
            package_versions={"reviewsum_assets": spec.package_version, **info.versions},
            canary_summaries=canaries if spec.engine.canary else {},
        )
        if producer.canary_summaries:
            try:
                record_reference(lake, recipe.key, producer)
            except LakeError as error:  # the summaries do not depend on it
                _log.warning("the canary summaries are no reference for other jobs: %s", error)
        settings = recipe.settings
        summarizer = Summarizer(
            engine,
            reader.tokenizer,
            options.device.tokens_per_batch(spec.engine, settings.chunk_tokens),
            on_generated,
            summary_joiner(reader.tokenizer, settings),
        )
        return cls(recipe, summarizer, producer, reader.load_seconds + time.monotonic() - started)


def _first_batch(
    reader: RecipeReader, options: WorkerOptions, name: EngineName, directory: Path
) -> tuple[Engine, dict[str, str]]:
    """Load an engine and let it summarize the canary texts."""
    try:
        engine = load_engine(
            name,
            directory,
            reader.recipe.settings,
            device="cpu" if options.device.gpu is None else "cuda",
            dtype=options.spec.engine.dtype,
            threads=options.device.threads,
        )
        # A batch of their own: in low precision, other rows of a batch can change a summary.
        summaries = engine.generate(reader.tokenizer.encode_many(CANARY_TEXTS))
    except Exception as error:
        if is_out_of_memory(error):  # while loading; ``generate`` raises its own type
            raise EngineOutOfMemory(str(error)) from error
        raise
    decoded = map(reader.tokenizer.decode, summaries)
    return engine, dict(zip(map(canary_key, CANARY_TEXTS), decoded, strict=True))


def _provided(spec: JobSpec) -> Path | None:
    return None if spec.provided is None else Path(spec.provided.model)
