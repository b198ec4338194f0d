"""Makes a model ready once: found, checked, converted to safe weights, published to the lake.

A ready model is a folder ``models/VERSION/`` that never changes; ``ready.json`` in it commits it.
Nothing that a model directory brings is ever executed: no code of its own, no pickle that could
run any.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.errors import ModelError
from reviewsum_assets.job.models.files import (
    PublishedFile,
    damaged_files,
    described,
    is_folder_whole,
    listing_hash,
    local_copy,
    publish,
)
from reviewsum_assets.job.models.source import (
    ModelSource,
    convert_weights,
    find_source,
    lake_source,
    needed_files,
    parameter_count,
)
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import SealedRecord

Family = Literal["pegasus", "bart", "t5"]

_FAMILIES: tuple[Family, ...] = ("pegasus", "bart", "t5")
_TOKENIZER_FILES = ("spiece.model", "tokenizer.json", "vocab.json")
_READY = "ready.json"
_VERSION = re.compile("[0-9a-f]{16}")


class ReadyModel(SealedRecord):
    """A model that a job can load; ``version`` is the hash of all its files."""

    version: str
    family: Family
    source: str
    prefix: str  # put before every chunk
    parameters: int
    vocabulary: int
    is_demo: bool
    files: tuple[PublishedFile, ...]

    @staticmethod
    def version_of(files: Sequence[PublishedFile]) -> str:
        """The version of a model with just these files."""
        return listing_hash(files)[:16]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)


def ready_model(lake: Lake, settings: Settings) -> tuple[ReadyModel, bool]:
    """Make the model that the settings name ready; the second value tells if it was already.

    Raises:
        ModelError: it cannot be found, is incomplete, of an unknown family, or unsafe.
    """
    planned = _planned_version(lake, settings)
    if planned is not None:
        return _planned_ready(lake, planned)
    source = find_source(lake, settings.model)
    known = _known_model(lake, source)
    if known is not None and is_whole(lake, known):
        return known, True
    model = _made_ready(lake, source)
    lake.put(_source_key(source), model.version.encode())
    return model, False


def examine_model(lake: Lake, settings: Settings) -> tuple[str, ReadyModel | None]:
    """Look at the model that the settings name, and write nothing.

    Returns:
        Its source and what is known of it: nothing before it is downloaded, from S3 or the hub.

    Raises:
        ModelError: it cannot be found, is incomplete, of an unknown family, or unsafe.
    """
    planned = _planned_model(lake, settings)
    if planned is not None:
        return planned.source, planned
    source = find_source(lake, settings.model)
    known = _known_model(lake, source)
    if known is not None:
        return source.name, known
    if not source.is_demo and not Path(source.name).is_dir():
        return source.name, None
    with source.files() as directory, _safe_directory(directory) as safe:
        return source.name, _examine(safe, source)


def is_current(lake: Lake, settings: Settings) -> bool:
    """Whether the model that the settings name is ready; looks at sizes and times only."""
    model = _planned_model(lake, settings)
    if model is None:
        model = _known_model(lake, find_source(lake, settings.model))
    return model is not None and is_whole(lake, model)


def is_whole(lake: Lake, model: ReadyModel) -> bool:
    """Whether the files of a ready model are there; what is in them is not read."""
    return is_folder_whole(lake, places.model_directory(model.version), model.files)


def damaged_model(lake: Lake, version: str) -> list[str]:
    """Keys of a ready model's objects that are not those published; reads them all."""
    prefix = places.model_directory(version)
    try:
        return damaged_files(lake, prefix, read_ready_model(lake, version).files)
    except ModelError:
        return [f"{prefix}/{_READY}"]


def read_ready_model(lake: Lake, version: str) -> ReadyModel:
    """The ready model of this version.

    A plan names its model by version, and so by content: no record can put other files in its
    place.

    Raises:
        ModelError: the lake has none, or its record names other files.
    """
    key = _record_key(version)
    try:
        model = ReadyModel.unsealed(lake.get(key) or b"")
    except ValueError as error:
        raise ModelError(
            f"model {version} is not on the lake: its record {lake.uri_of(key)} is missing or "
            "damaged. To fix: materialize summarizer_model, which makes it again from the model's "
            "files"
        ) from error
    if version != model.version or version != ReadyModel.version_of(model.files):
        raise ModelError(
            f"{lake.uri_of(key)} names other files than those of model {version}: remove it and "
            "materialize summarizer_model"
        )
    return model


def local_model_directory(
    lake: Lake, version: str, cache: Path, provided: Path | None = None
) -> Path:
    """A directory to load a ready model from: in place on a local lake, else a copy.

    Args:
        lake: holds the model.
        version: of the model.
        cache: where copies are kept, one folder a version.
        provided: a directory that may hold a copy of just this model already.

    Raises:
        ModelError: a file is missing, or not the one that was published, or was put beside them.
    """
    model = read_ready_model(lake, version)
    if provided is not None and not _holds(provided, model):
        provided = None
    return local_copy(lake, _record_key(version), model.files, cache, provided)


def _holds(directory: Path, model: ReadyModel) -> bool:
    """Whether a directory is a copy of this ready model; its files are not looked at."""
    try:
        return ReadyModel.unsealed((directory / _READY).read_bytes()) == model
    except (OSError, ValueError):
        return False


def _planned_model(lake: Lake, settings: Settings) -> ReadyModel | None:
    """The ready model of ``_planned_version``.

    Raises:
        ModelError: its record is missing or damaged.
    """
    version = _planned_version(lake, settings)
    return None if version is None else read_ready_model(lake, version)


def _planned_version(lake: Lake, settings: Settings) -> str | None:
    """Version of the current plan's model, if none is named now and the lake offers none.

    It was named by an earlier call: a call that does not name it must not plan every product again
    with the demo model.
    """
    if settings.model or lake.list(places.PEGASUS_MODEL):
        return None
    plan = current_plan(lake)
    return None if plan is None else plan.recipes[plan.recipe].model_version


def _planned_ready(lake: Lake, version: str) -> tuple[ReadyModel, bool]:
    """The planned model; made ready again if its record, or a file of the demo model, is damaged.

    Raises:
        ModelError: files are missing or damaged, and the source is not known any more.
    """
    known = _recorded(lake, version)
    if known is not None and is_whole(lake, known):
        return known, True
    for source in (find_source(lake, "demo"), lake_source(lake, places.model_directory(version))):
        if source is not None:
            with suppress(ModelError):  # it is another model, or not whole
                return _made_ready(lake, source, version), False
    origin = f", made ready from {known.source}," if known is not None else ""
    raise ModelError(
        f"model {version}{origin} lacks files on the lake, or they are damaged. To fix: name the "
        "model again (--model), and it is made ready again"
    )


def _made_ready(lake: Lake, source: ModelSource, version: str | None = None) -> ReadyModel:
    """Publish the model of a source; if ``version`` is given, no other than that one.

    Raises:
        ModelError: it is incomplete, unsafe, of an unknown family or of another version.
    """
    with source.files() as directory, _safe_directory(directory) as safe:
        model = _examine(safe, source)
        if version not in (None, model.version):
            raise ModelError(f"{source.name} is model {model.version}, not {version}")
        publish(lake, _record_key(model.version), model, safe, model.files)
    return model


def _recorded(lake: Lake, version: str) -> ReadyModel | None:
    """The ready model of this version, if its record can be read."""
    try:
        return read_ready_model(lake, version)
    except ModelError:
        return None


def _known_model(lake: Lake, source: ModelSource) -> ReadyModel | None:
    version = (lake.get(_source_key(source)) or b"").decode(errors="replace")
    return _recorded(lake, version) if _VERSION.fullmatch(version) else None


def _record_key(version: str) -> str:
    return f"{places.model_directory(version)}/{_READY}"


def _source_key(source: ModelSource) -> str:
    return f"{places.MODELS}/sources/{source.fingerprint}"


@contextmanager
def _safe_directory(directory: Path) -> Iterator[Path]:
    """The files needed, with weights as safetensors: links to them, or converted.

    The small files are copies: what is examined is what is published, whatever replaces them
    meanwhile.
    """
    pickles = sorted(directory.glob("pytorch_model*.bin"))
    with tempfile.TemporaryDirectory(prefix="reviewsum-model-") as scratch:
        safe = Path(scratch)
        for file in needed_files(directory):
            if file.suffix == ".safetensors":
                (safe / file.name).symlink_to(file.absolute())
            elif not file.name.startswith("pytorch_model"):
                shutil.copyfile(file, safe / file.name)
        if not list(safe.glob("*.safetensors")):
            if not pickles:
                raise ModelError(
                    f"{directory} holds no weights: expected model.safetensors or "
                    f"pytorch_model.bin, found {_listed(directory)}"
                )
            convert_weights(pickles, safe / "model.safetensors")
        yield safe


def _examine(directory: Path, source: ModelSource) -> ReadyModel:
    config = _read_config(directory)
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ModelError(
            f"{source.name} is a model of type {family!r}; supported are {', '.join(_FAMILIES)}"
        )
    if not any((directory / name).exists() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{source.name} has no tokenizer: expected one of {', '.join(_TOKENIZER_FILES)}, "
            f"found {_listed(directory)}"
        )
    files = described(directory, directory.iterdir())
    return ReadyModel(
        version=ReadyModel.version_of(files),
        family=family,
        source=source.name,
        prefix=_prefix(config, family),
        parameters=sum(parameter_count(path) for path in directory.glob("*.safetensors")),
        vocabulary=_vocabulary(config, source),
        is_demo=source.is_demo,
        files=files,
    )


def _read_config(directory: Path) -> dict[str, Any]:
    """The model's config; what it brings besides asks for nothing that would have to be run."""
    if not (directory / "config.json").exists():
        raise ModelError(f"{directory} holds no config.json: found {_listed(directory)}")
    for path in sorted(directory.glob("*config.json")):
        content = _read_json(path)
        if "auto_map" in content:
            raise ModelError(
                f"{path} asks for code of its own (auto_map), which is never run: use a model "
                "that transformers has built in"
            )
        for name, value in content.items():
            # transformers takes such a name for a kernel that it loads from the hub.
            if "attn_implementation" in name and "/" in json.dumps(value):
                raise ModelError(
                    f"{path} asks for code from elsewhere ({name}: {value}), which is never run: "
                    "remove that line"
                )
    return _read_json(directory / "config.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object: found {type(content).__name__}")
    return content


def _vocabulary(config: dict[str, Any], source: ModelSource) -> int:
    size = config.get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise ModelError(f"{source.name}: vocab_size in config.json is {size!r}, not a number")
    return size


def _prefix(config: dict[str, Any], family: str) -> str:
    """T5 tells its tasks apart by a prefix; the config of the original models names it."""
    tasks = config.get("task_specific_params")
    task = tasks.get("summarization") if isinstance(tasks, dict) else None
    if isinstance(task, dict) and "prefix" in task:
        return str(task["prefix"])
    return "summarize: " if family == "t5" else ""


def _listed(directory: Path) -> str:
    return ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
