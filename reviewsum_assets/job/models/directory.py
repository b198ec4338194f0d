"""Makes a model ready once: found, checked, converted to safe weights, published to the lake.

A ready model is a folder ``models/VERSION/`` that never changes; ``ready.json`` in it commits it.
Nothing in a model directory is ever executed: neither its code nor a pickle that holds some.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, get_args

from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.errors import ModelError
from reviewsum_assets.job.models.files import (
    PublishedFile,
    PublishedFolder,
    damaged_files,
    described,
    listing_hash,
)
from reviewsum_assets.job.models.fit import (
    WEIGHTS,
    read_json,
    refuse_missing_shards,
    refuse_missing_start,
    refuse_other_tokenizer,
    refuse_other_weights,
    refuse_pointers,
    refuse_settings,
)
from reviewsum_assets.job.models.layout import Family, positions_of
from reviewsum_assets.job.models.source import (
    ModelSource,
    convert_weights,
    find_source,
    lake_source,
    needed_files,
    tensors_of,
)
from reviewsum_assets.settings import Settings, SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

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
    positions: int | None  # of the encoder and the decoder; None: no limit
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

    def encoder_tokens(self, settings: SummarySettings) -> int:
        """Length at which the encoder's input is truncated."""
        return min(settings.encoder_tokens, self.positions or settings.encoder_tokens)

    def require_fit(self, settings: SummarySettings) -> None:
        """Refuse settings that need more positions than there are.

        Raises:
            UnfitModelError: They do.
        """
        refuse_settings(self.source, self.positions, settings)


def ready_model(lake: Lake, settings: Settings) -> tuple[ReadyModel, bool]:
    """Make the model of the settings ready; also return whether it was ready before.

    Raises:
        ModelError: It cannot be found, is incomplete, of an unknown family, unsafe, or its parts do
            not fit each other or the settings.
    """
    model, reused = _found_ready(lake, settings)
    model.require_fit(settings.summary_settings())
    return model, reused


def _found_ready(lake: Lake, settings: Settings) -> tuple[ReadyModel, bool]:
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
        ModelError: It cannot be found, is incomplete, of an unknown family, unsafe, or its parts do
            not fit each other or the settings.
    """
    name, model = _examined(lake, settings)
    if model is not None:
        model.require_fit(settings.summary_settings())
    return name, model


def _examined(lake: Lake, settings: Settings) -> tuple[str, ReadyModel | None]:
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
        files = needed_files(directory)
        refuse_pointers(source.name, files)
        refuse_missing_shards(source.name, directory)
        for file in files:
            if file.suffix == ".safetensors":
                (safe / file.name).symlink_to(file.absolute())
            elif not file.name.startswith("pytorch_model"):
                shutil.copyfile(file, safe / file.name)
        if not list(safe.glob("*.safetensors")):
            pickles = sorted(directory.glob("pytorch_model*.bin"))
            if not pickles:
                raise ModelError(
                    f"{source.name} holds no weights: expected {WEIGHTS} or pytorch_model.bin, "
                    f"found {_listed(directory)}"
                )
            convert_weights(source.name, pickles, safe / WEIGHTS)
        yield safe


def _examine(directory: Path, source: ModelSource) -> ReadyModel:
    """Describe a model, unless its files are incomplete, unknown, unfit or ask for code."""
    name = source.name
    if not (directory / "config.json").exists():
        raise ModelError(f"{name} holds no config.json: found {_listed(directory)}")
    for path in sorted(directory.glob("*config.json")):
        _refuse_code(path, f"{name}/{path.name}")
    config = read_json(directory / "config.json", f"{name}/config.json")
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ModelError(
            f"{name} is a model of type {family!r}; supported are {', '.join(_FAMILIES)}"
        )
    if not any((directory / file).exists() for file in _TOKENIZER_FILES):
        raise ModelError(
            f"{name} has no tokenizer: expected one of {', '.join(_TOKENIZER_FILES)}, "
            f"found {_listed(directory)}"
        )
    vocabulary = config.get("vocab_size")
    if not isinstance(vocabulary, int) or vocabulary < 1:
        raise ModelError(f"{name}: vocab_size in config.json is {vocabulary!r}, not a number")
    headers = {p.name: tensors_of(p, f"{name}/{p.name}") for p in directory.glob("*.safetensors")}
    # Where there are both, transformers reads the single file.
    loaded = [headers[WEIGHTS]] if WEIGHTS in headers else headers.values()
    shapes = {key: tensor.shape for header in loaded for key, tensor in header.items()}
    refuse_other_weights(name, family, config, shapes)
    refuse_other_tokenizer(name, family, config, directory)
    refuse_missing_start(name, directory)
    files = described(directory)
    return ReadyModel(
        version=ReadyModel.version_of(files),
        family=family,
        source=name,
        prefix=_prefix(config, family),
        parameters=sum(math.prod(one.shape) for all_ in headers.values() for one in all_.values()),
        vocabulary=vocabulary,
        positions=positions_of(family, config),
        is_demo=source.is_demo,
        files=files,
    )


def _refuse_code(path: Path, shown: str) -> None:
    """Refuse a config that asks for code, which would have to be run."""
    content = read_json(path, shown)
    if "auto_map" in content:
        raise ModelError(
            f"{shown} asks for code of its own (auto_map), which is never run: use a model that "
            "transformers has built in"
        )
    for name, value in content.items():
        # transformers takes such a name for a kernel that it loads from the hub.
        if "attn_implementation" in name and "/" in json.dumps(value):
            raise ModelError(
                f"{shown} asks for code from elsewhere ({name}: {value}), which is never run: "
                "remove that line"
            )


def _prefix(config: dict[str, Any], family: str) -> str:
    """T5 distinguishes tasks by a prefix; the config of the original models names it."""
    tasks = config.get("task_specific_params")
    task = tasks.get("summarization") if isinstance(tasks, dict) else None
    if isinstance(task, dict) and "prefix" in task:
        return str(task["prefix"])
    return "summarize: " if family == "t5" else ""


def _listed(directory: Path) -> str:
    return ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
