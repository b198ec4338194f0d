"""Weights on disk: converts pickled ones to safetensors without ever running what they hold."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.errors import ModelError
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

if TYPE_CHECKING:
    import torch


_STORED_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def convert_weights(pickles: Sequence[Path], target: Path) -> None:
    """Write the tensors of ``pytorch_model*.bin`` files to one safetensors file.

    Raises:
        ModelError: a file holds anything but tensors, or cannot be read.
    """
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for path in pickles:
        tensors.update(_load_tensors(path))
    # transformers refuses files that do not say which framework wrote them.
    save_file(_without_aliases(tensors), target, metadata={"format": "pt"})


def parameter_count(path: Path) -> int:
    """Parameters in a safetensors file, from its header alone.

    Raises:
        ModelError: it is not such a file.
    """
    return sum(math.prod(shape) for _, shape in _tensors(path))


def stored_type(directory: Path) -> str:
    """The number type that holds all weights of a directory's safetensors files.

    ``float32`` where there are several types, since it holds any of them.
    """
    found = {dtype for path in directory.glob("*.safetensors") for dtype, _ in _tensors(path)}
    return _STORED_TYPES.get(found.pop(), "float32") if len(found) == 1 else "float32"


def _tensors(path: Path) -> list[tuple[str, list[int]]]:
    """Number type and shape of each tensor, from the file's header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - not a dictionary
            return [(tensor.get_dtype(), tensor.get_shape()) for tensor in slices]
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file, or is damaged: {error}") from error


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes it raise
        raise ModelError(
            f"{path} holds more than weights, or is damaged, and is not loaded ({error}); use a "
            "model with safetensors"
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(t, torch.Tensor) for t in loaded.values()
    ):
        raise ModelError(f"{path} does not hold a dictionary of weights; use safetensors")
    return loaded


def _without_aliases(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One name for each tensor that is stored once; transformers ties the others by itself.

    The name it ties them to is that of the shared embedding.
    """
    kept: dict[tuple[int, tuple[int, ...]], str] = {}
    for name in sorted(tensors, key=lambda name: ("shared" not in name, len(name), name)):
        kept.setdefault((tensors[name].data_ptr(), tuple(tensors[name].shape)), name)
    return {name: tensors[name].contiguous() for name in sorted(kept.values())}


# Everything a sequence-to-sequence model needs, and nothing that could be executed.
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
    """A model before it is ready. ``files`` gives a directory that holds it."""

    name: str
    fingerprint: str
    files: Callable[[], AbstractContextManager[Path]]
    is_demo: bool = False


def needed_files(directory: Path) -> list[Path]:
    """The files of a model directory that are taken."""
    return sorted({path for pattern in _NEEDED for path in directory.glob(pattern)})


def find_source(lake: Lake, model: str) -> ModelSource:
    """Find the model that the setting names.

    Args:
        lake: its ``pegasus_model/`` is taken where ``model`` is empty, the demo model where there
            is no such folder.
        model: a directory, a lake path, ``NAME@REVISION`` on the hub, ``demo`` or nothing.

    Raises:
        ModelError: there is no such model; says where it was looked for.
    """
    if model == "demo":
        return _directory_source(DEMO_MODEL, is_demo=True)
    if not model:
        return lake_source(lake, places.PEGASUS_MODEL) or _directory_source(
            DEMO_MODEL, is_demo=True
        )
    if Path(model).expanduser().is_dir():
        return _directory_source(Path(model).expanduser())
    if not model.startswith(("/", "~", ".")):
        found = lake_source(lake, model) if "@" not in model else None
        if found is not None:
            return found
        hub = _HUB_NAME.fullmatch(model)
        if hub is not None:
            return _hub_source(hub["name"], hub["revision"])
    raise ModelError(
        f"model {model!r} is neither a directory here, nor a folder of {lake.uri}, nor a name on "
        "the Hugging Face hub (NAME@REVISION)"
    )


def _directory_source(directory: Path, *, is_demo: bool = False) -> ModelSource:
    found = needed_files(directory)
    if not found:
        raise ModelError(f"{directory} holds no model: expected config.json, weights, tokenizer")
    # Times of modification can be set and copied. The kernel sets the time of a change, and gives
    # a file that replaces another one its own number. A hash would read gigabytes on every look.
    stats = [
        (path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        for path in found
        for stat in [path.stat()]
    ]
    name = "demo" if is_demo else str(directory.absolute())
    return ModelSource(name, _fingerprint(name, stats), lambda: nullcontext(directory), is_demo)


def lake_source(lake: Lake, prefix: str) -> ModelSource | None:
    """A folder of the lake, if it holds a config."""
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
