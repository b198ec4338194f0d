"""Weights on disk: converts pickled ones to safetensors without ever running what they hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reviewsum_assets.errors import ModelError

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
