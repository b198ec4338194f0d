"""A model as a worker holds it: a chunker for what comes next, an engine for what is there.

They are loaded apart, so that one thread can read and cut while another generates.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from reviewsum_assets.checkpoints.manifest import Producer, record_reference
from reviewsum_assets.checkpoints.plan import Recipe
from reviewsum_assets.errors import JobError, LakeError, SettingsError
from reviewsum_assets.job.canaries import CANARY_TEXTS, named_canaries
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.job.devices import WorkerDevice
from reviewsum_assets.job.engines import EngineName, load_engine
from reviewsum_assets.job.engines.base import Engine, EngineOutOfMemory, is_out_of_memory
from reviewsum_assets.job.engines.choice import choose_engine
from reviewsum_assets.job.hierarchy import summary_joiner
from reviewsum_assets.job.models.conversion import (
    conversion_obstacle,
    local_conversion,
    read_conversion,
)
from reviewsum_assets.job.models.directory import local_model_directory, read_ready_model
from reviewsum_assets.job.models.files import model_cache
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.summarizer import Summarizer
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

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
    reason: str  # why it is not the faster engine; empty if it is
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
            directory = local_conversion(lake, conversion, model_cache(), _provided(spec))
        else:
            _log.info("engine transformers: %s", choice.reason)
            directory = _model_files(lake, recipe, spec)
        prefix = read_ready_model(lake, recipe.model_version).prefix
        tokenizer = ChunkTokenizer.load(directory, prefix, recipe.settings.encoder_tokens)
        return cls(
            recipe=recipe,
            engine=choice.name,
            reason=choice.reason,
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
        """Load an engine that works; ``on_generated`` is the summarizer's.

        Raises:
            SettingsError: the device cannot compute in the type that is asked for.
            JobError: the engine cannot be loaded on the device.
        """
        started = time.monotonic()
        try:
            proven = _proven_engine(lake, reader, options)
        except EngineOutOfMemory as error:
            raise JobError(
                f"the model and four short texts do not fit into the memory of {options.device}: "
                f"{error}. To fix: end other processes that use the device"
            ) from error
        info = proven.engine.describe()
        spec, settings = options.spec, reader.recipe.settings
        producer = Producer(
            job_name=spec.name,
            host=socket.gethostname(),
            instance_type=options.instance_type,
            engine=info.name,
            engine_reason=proven.reason,
            failed_engine=proven.failed,
            device=info.device,
            dtype=info.dtype,
            model_version=reader.recipe.model_version,
            package_versions={"reviewsum_assets": spec.package_version, **info.versions},
            canary_summaries=proven.canaries if spec.engine.canary else {},
        )
        _record(lake, reader.recipe, producer)
        return cls(
            reader.recipe,
            Summarizer(
                proven.engine,
                reader.tokenizer,
                spec.engine.tokens_per_batch(settings.chunk_tokens, options.device.gpu_memory_gib),
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


@dataclass(frozen=True)
class _ProvenEngine:
    """An engine that has generated a first batch on its device, and what it said.

    ``reason`` says why it is not the faster engine; it is empty if it is. ``failed`` names the
    engine that was chosen first and failed.
    """

    engine: Engine
    canaries: dict[str, str]
    reason: str = ""
    failed: str = ""


def _proven_engine(lake: Lake, reader: RecipeReader, options: WorkerOptions) -> _ProvenEngine:
    """Load the chosen engine, or transformers where that one cannot work on the device.

    Much is only found out by the first batch: a missing library, a GPU that the engine was not
    built for. A slow job is better than one that ends here, minutes after its instances started.
    """
    asked = options.spec.engine
    may_fall_back = reader.engine == "ctranslate2" and asked.engine == "auto"
    if may_fall_back and asked.dtype != "int8":
        try:
            return _first_batch(reader, options, reader.engine, reader.directory)
        except (EngineOutOfMemory, SettingsError):
            raise
        except Exception as error:
            reason = (
                f"{reader.engine} could not be loaded, or failed on its first batch: "
                f"{type(error).__name__}: {error}"
            )
        _log.warning("%s; transformers takes over, several times slower", reason)
        directory = _model_files(lake, reader.recipe, options.spec)
        proven = _first_batch(reader, options, "transformers", directory, reason)
        return replace(proven, failed=reader.engine)
    return _first_batch(reader, options, reader.engine, reader.directory, reader.reason)


def _first_batch(
    reader: RecipeReader,
    options: WorkerOptions,
    name: EngineName,
    directory: Path,
    reason: str = "",
) -> _ProvenEngine:
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
        if is_out_of_memory(error):  # while loading; generating says so itself
            raise EngineOutOfMemory(str(error)) from error
        raise
    return _ProvenEngine(engine, named_canaries(summaries, reader.tokenizer), reason)


def _model_files(lake: Lake, recipe: Recipe, spec: JobSpec) -> Path:
    return local_model_directory(lake, recipe.model_version, model_cache(), _provided(spec))


def _provided(spec: JobSpec) -> Path | None:
    return None if spec.provided is None else Path(spec.provided.model)
