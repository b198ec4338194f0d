"""Finds the model that the settings name, and reads or converts weights without running them."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.errors import ModelError
from reviewsum_assets.job.models.fit import WRAPPER_PREFIXES
from reviewsum_assets.job.models.layout import Shape
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

_STORED_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Everything that a sequence-to-sequence model needs, and nothing that could be executed.
_NEEDED = (
    "config.json",
    "generation_config.json",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "model*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
)
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>.*))?")
_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelSource:
    """A model before it is ready; ``files`` gives a directory that holds it."""

    name: str
    fingerprint: str
    files: Callable[[], AbstractContextManager[Path]]
    is_demo: bool = False


def find_source(lake: Lake, model: str) -> ModelSource:
    """Find the model that the setting names.

    Args:
        lake: its ``pegasus_model/`` is used if ``model`` is empty, else the demo model.
        model: a directory, a lake path, ``NAME@REVISION`` on the hub, ``demo`` or empty.

    Raises:
        ModelError: There is no such model.
    """
    if not model and (found := lake_source(lake, places.PEGASUS_MODEL)):
        return found
    if model in ("", "demo"):
        return _directory_source(DEMO_MODEL, is_demo=True)
    if Path(model).expanduser().is_dir():
        return _directory_source(Path(model).expanduser())
    if not model.startswith(("/", "~", ".")):
        if "@" not in model and (found := lake_source(lake, model)):
            return found
        if hub := _HUB_NAME.fullmatch(model):
            return _hub_source(hub["name"], hub["revision"])
    raise ModelError(
        f"model {model!r} is neither a directory here, nor a folder of {lake.uri}, nor a name on "
        "the Hugging Face hub (NAME@REVISION)"
    )


def lake_source(lake: Lake, prefix: str) -> ModelSource | None:
    """Return a folder of the lake as a source if it holds a config."""
    listed = {item.key.removeprefix(f"{prefix}/"): item for item in lake.list(prefix)}
    if "config.json" not in listed:
        return None
    if lake.directory is not None:
        return _directory_source(lake.directory / prefix)
    needed = [name for name in sorted(listed) if any(Path(name).match(p) for p in _NEEDED)]
    stats = [(name, listed[name].size, listed[name].e_tag) for name in needed if "/" not in name]

    @contextmanager
    def files() -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="reviewsum-model-") as scratch:
            for name, _, _ in stats:
                lake.download(f"{prefix}/{name}", Path(scratch, name))
            yield Path(scratch)

    uri = lake.uri_of(prefix)
    return ModelSource(uri, _fingerprint(uri, stats), files)


def _directory_source(directory: Path, *, is_demo: bool = False) -> ModelSource:
    found = needed_files(directory)
    if not found:
        raise ModelError(f"{directory} holds no model: expected config.json, weights, tokenizer")
    # Modification times can be set and copied. The kernel sets the time of a change, and gives a
    # file that replaces another one a new number. A hash would read gigabytes on every look.
    stats = [
        (path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        for path in found
        for stat in [path.stat()]
    ]
    name = "demo" if is_demo else str(directory.absolute())
    return ModelSource(name, _fingerprint(name, stats), lambda: nullcontext(directory), is_demo)


def _hub_source(name: str, revision: str | None) -> ModelSource:
    if revision is None or not _REVISION.fullmatch(revision):
        raise ModelError(
            f"model {name!r} on the hub needs a pinned revision, so that it cannot change "
            f"unnoticed: use {name}@COMMIT with the 40 hexadecimal digits of a commit, as the "
            "model's page lists them under Files, History"
        )

    @contextmanager
    def files() -> Iterator[Path]:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            downloaded = snapshot_download(name, revision=revision, allow_patterns=list(_NEEDED))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise ModelError(f"model {name}@{revision} cannot be downloaded: {error}") from error
        yield Path(downloaded)

    full = f"{name}@{revision}"
    return ModelSource(full, _fingerprint(full, []), files)


def _fingerprint(name: str, stats: object) -> str:
    return hashlib.sha256(json.dumps([name, stats]).encode()).hexdigest()[:32]


def needed_files(directory: Path) -> list[Path]:
    """Return the files of a model directory that belong to a ready model."""
    return sorted({path for pattern in _NEEDED for path in directory.glob(pattern)})


def convert_weights(source: str, pickles: Sequence[Path], target: Path) -> None:
    """Write the tensors of ``pytorch_model*.bin`` files of a source to one safetensors file.

    A prefix of all names that wrappers of a model add, as DataParallel does, is cut off.

    Raises:
        ModelError: A file holds anything but tensors, or cannot be read.
    """
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for path in pickles:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise any type
            raise ModelError(
                f"{source}/{path.name} holds more than weights, or is damaged, and is not loaded "
                f"({error}); use a model with safetensors"
            ) from error
        values = loaded.values() if isinstance(loaded, dict) else [None]
        if not all(isinstance(value, torch.Tensor) for value in values):
            raise ModelError(
                f"{source}/{path.name} does not hold a dictionary of weights; use safetensors"
            )
        tensors.update(loaded)
    for prefix in WRAPPER_PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    # One name per stored tensor: transformers ties the others to the name of the shared embedding.
    kept: dict[tuple[int, tuple[int, ...]], str] = {}
    for name in sorted(tensors, key=lambda name: ("shared" not in name, len(name), name)):
        kept.setdefault((tensors[name].data_ptr(), tuple(tensors[name].shape)), name)
    unique = {name: tensors[name].contiguous() for name in sorted(kept.values())}
    # transformers refuses files without the name of the framework that wrote them.
    save_file(unique, target, metadata={"format": "pt"})


def stored_type(directory: Path) -> str:
    """Return the number type of all weights of a directory; float32 if there are several."""
    headers = (tensors_of(path, str(path)) for path in directory.glob("*.safetensors"))
    found = {tensor.dtype for header in headers for tensor in header.values()}
    return _STORED_TYPES.get(found.pop(), "float32") if len(found) == 1 else "float32"


class StoredTensor(NamedTuple):
    """Number type and shape of a tensor in a file."""

    dtype: str
    shape: Shape


def tensors_of(path: Path, shown: str) -> dict[str, StoredTensor]:
    """Read the header of a safetensors file; ``shown`` is the place that the user knows.

    Raises:
        ModelError: It is not such a file, or a part of it is missing.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            return {
                name: StoredTensor(tensor.get_dtype(), tuple(tensor.get_shape()))
                for name, tensor in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{shown} is not a safetensors file, or is damaged: {error}. To fix: download it again"
        ) from error
