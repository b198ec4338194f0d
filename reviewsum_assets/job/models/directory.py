"""Makes a model ready once: found, checked, converted to safe weights, published to the lake.

A ready model is a folder ``models/VERSION/`` that never changes; ``ready.json`` in it commits it.
Nothing in a model directory is ever executed: neither its code nor a pickle that holds some.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.errors import ModelError
from reviewsum_assets.job.models.files import (
    PublishedFile,
    PublishedFolder,
    damaged_files,
    described,
    listing_hash,
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

Family = Literal["pegasus", "bart", "t5"]

_FAMILIES: tuple[str, ...] = get_args(Family)
_TOKENIZER_FILES = ("spiece.model", "tokenizer.json", "vocab.json")
_VERSION = re.compile("[0-9a-f]{16}")


class ReadyModel(PublishedFolder):
    """A model that a job can load; ``version`` is the hash of all its files."""

    record_name: ClassVar[str] = "ready.json"

    version: str
    family: Family
    source: str
    prefix: str  # put before every chunk
    parameters: int
    vocabulary: int
    is_demo: bool

    @staticmethod
    def version_of(files: Sequence[PublishedFile]) -> str:
        """Compute the version of a model with just these files."""
        return listing_hash(files)[:16]

    @property
    def folder(self) -> str:
        """Prefix of the folder on the lake."""
        return places.model_directory(self.version)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)


def ready_model(lake: Lake, settings: Settings) -> tuple[ReadyModel, bool]:
    """Make the model of the settings ready; also return whether it was ready before.

    Raises:
        ModelError: It cannot be found, is incomplete, of an unknown family, or unsafe.
    """
    version = _planned_version(lake, settings)
    if version is not None:
        return _planned_ready(lake, version)
    source = find_source(lake, settings.model)
    known = _known_model(lake, source)
    if known is not None and known.is_whole(lake):
        return known, True
    model = _make_ready(lake, source)
    lake.put(_source_key(source), model.version.encode())
    return model, False


def examine_model(lake: Lake, settings: Settings) -> tuple[str, ReadyModel | None]:
    """Describe the model of the settings without writing anything.

    Returns:
        Its source, and the model; None before it is downloaded from S3 or the hub.

    Raises:
        ModelError: It cannot be found, is incomplete, of an unknown family, or unsafe.
    """
    version = _planned_version(lake, settings)
    if version is not None:
        planned = read_ready_model(lake, version)
        return planned.source, planned
    source = find_source(lake, settings.model)
    known = _known_model(lake, source)
    if known is None and (source.is_demo or Path(source.name).is_dir()):
        with _safe_files(source) as directory:
            known = _examine(directory, source)
    return source.name, known


def is_current(lake: Lake, settings: Settings) -> bool:
    """Return whether the model of the settings is ready; only sizes and times are compared."""
    version = _planned_version(lake, settings)
    if version is not None:
        return read_ready_model(lake, version).is_whole(lake)
    known = _known_model(lake, find_source(lake, settings.model))
    return known is not None and known.is_whole(lake)


def damaged_model(lake: Lake, version: str) -> list[str]:
    """Return keys of a ready model's objects that are not those published; reads them all."""
    folder = places.model_directory(version)
    try:
        return damaged_files(lake, folder, read_ready_model(lake, version).files)
    except ModelError:
        return [f"{folder}/{ReadyModel.record_name}"]


def read_ready_model(lake: Lake, version: str) -> ReadyModel:
    """Read the ready model of this version, which is the hash of its files.

    Raises:
        ModelError: The lake has none, or its record names other files.
    """
    key = f"{places.model_directory(version)}/{ReadyModel.record_name}"
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


def _planned_version(lake: Lake, settings: Settings) -> str | None:
    """Return the model version of the current plan if neither settings nor lake name a model.

    An earlier call named it: a call that does not must not plan every product again with the demo
    model.
    """
    if settings.model or lake.list(places.PEGASUS_MODEL):
        return None
    plan = current_plan(lake)
    return None if plan is None else plan.recipes[plan.recipe].model_version


def _planned_ready(lake: Lake, version: str) -> tuple[ReadyModel, bool]:
    """Return the planned model; a damaged record, or demo model, is made ready again."""
    known = _recorded(lake, version)
    if known is not None and known.is_whole(lake):
        return known, True
    for source in (find_source(lake, "demo"), lake_source(lake, places.model_directory(version))):
        if source is not None:
            with suppress(ModelError):  # it is another model, or incomplete
                return _make_ready(lake, source, version), False
    origin = f", made ready from {known.source}," if known is not None else ""
    raise ModelError(
        f"model {version}{origin} lacks files on the lake, or they are damaged. To fix: name the "
        "model again (--model), and it is made ready again"
    )


def _make_ready(lake: Lake, source: ModelSource, version: str | None = None) -> ReadyModel:
    """Publish the model of a source; another model than ``version``, if given, is refused."""
    with _safe_files(source) as directory:
        model = _examine(directory, source)
        if version not in (None, model.version):
            raise ModelError(f"{source.name} is model {model.version}, not {version}")
        model.publish(lake, directory)
    return model


def _recorded(lake: Lake, version: str) -> ReadyModel | None:
    """Read the ready model of this version if possible."""
    with suppress(ModelError):
        return read_ready_model(lake, version)
    return None


def _known_model(lake: Lake, source: ModelSource) -> ReadyModel | None:
    version = (lake.get(_source_key(source)) or b"").decode(errors="replace")
    return _recorded(lake, version) if _VERSION.fullmatch(version) else None


def _source_key(source: ModelSource) -> str:
    return f"{places.MODELS}/sources/{source.fingerprint}"


@contextmanager
def _safe_files(source: ModelSource) -> Iterator[Path]:
    """Give a directory with the needed files, with weights as safetensors: links or conversions.

    Small files are copies: the examined files are the published ones, whatever replaces the
    originals meanwhile.
    """
    with (
        source.files() as directory,
        tempfile.TemporaryDirectory(prefix="reviewsum-model-") as scratch,
    ):
        safe = Path(scratch)
        for file in needed_files(directory):
            if file.suffix == ".safetensors":
                (safe / file.name).symlink_to(file.absolute())
            elif not file.name.startswith("pytorch_model"):
                shutil.copyfile(file, safe / file.name)
        if not list(safe.glob("*.safetensors")):
            pickles = sorted(directory.glob("pytorch_model*.bin"))
            if not pickles:
                raise ModelError(
                    f"{directory} holds no weights: expected model.safetensors or "
                    f"pytorch_model.bin, found {_listed(directory)}"
                )
            convert_weights(pickles, safe / "model.safetensors")
        yield safe


def _examine(directory: Path, source: ModelSource) -> ReadyModel:
    """Describe a model, unless its files are incomplete, unknown or ask for code."""
    if not (directory / "config.json").exists():
        raise ModelError(f"{directory} holds no config.json: found {_listed(directory)}")
    for path in sorted(directory.glob("*config.json")):
        _refuse_code(path)
    config = _read_json(directory / "config.json")
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
    vocabulary = config.get("vocab_size")
    if not isinstance(vocabulary, int) or vocabulary < 1:
        raise ModelError(
            f"{source.name}: vocab_size in config.json is {vocabulary!r}, not a number"
        )
    files = described(directory)
    return ReadyModel(
        version=ReadyModel.version_of(files),
        family=family,
        source=source.name,
        prefix=_prefix(config, family),
        parameters=sum(parameter_count(path) for path in directory.glob("*.safetensors")),
        vocabulary=vocabulary,
        is_demo=source.is_demo,
        files=files,
    )


def _refuse_code(path: Path) -> None:
    """Refuse a config that asks for code, which would have to be run."""
    content = _read_json(path)
    if "auto_map" in content:
        raise ModelError(
            f"{path} asks for code of its own (auto_map), which is never run: use a model that "
            "transformers has built in"
        )
    for name, value in content.items():
        # transformers takes such a name for a kernel that it loads from the hub.
        if "attn_implementation" in name and "/" in json.dumps(value):
            raise ModelError(
                f"{path} asks for code from elsewhere ({name}: {value}), which is never run: "
                "remove that line"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object: found {type(content).__name__}")
    return content


def _prefix(config: dict[str, Any], family: str) -> str:
    """T5 distinguishes tasks by a prefix; the config of the original models names it."""
    tasks = config.get("task_specific_params")
    task = tasks.get("summarization") if isinstance(tasks, dict) else None
    if isinstance(task, dict) and "prefix" in task:
        return str(task["prefix"])
    return "summarize: " if family == "t5" else ""


def _listed(directory: Path) -> str:
    return ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
