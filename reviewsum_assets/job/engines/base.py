"""Engine: batches of token ids in, batches of summary token ids out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# How CUDA, cuBLAS, MKL and PyTorch put it in the text of a plain RuntimeError.
_OUT_OF_MEMORY = (
    "out of memory",
    "ALLOC_FAILED",  # CUBLAS_STATUS_, CUDNN_STATUS_
    "failed to allocate memory",
    "can't allocate memory",
    "not enough memory",
)


class EngineOutOfMemory(Exception):  # noqa: N818 - named after what happened, as torch does
    """A batch did not fit into the device's memory; a smaller one may."""


@dataclass(frozen=True)
class EngineInfo:
    """Origin of a summary, for its manifest."""

    name: str
    device: str
    dtype: str
    versions: Mapping[str, str]


class Engine(Protocol):
    """A loaded model with its generation settings."""

    def generate(self, batch: Sequence[Sequence[int]]) -> list[list[int]]:
        """Summarize chunks.

        Args:
            batch: token ids of each chunk, special tokens included, not padded.

        Returns:
            Token ids of each summary without special tokens, in the order of ``batch``.

        Raises:
            EngineOutOfMemory: the batch is too large for the device.
        """

    def describe(self) -> EngineInfo:
        """Name, device, number type and library versions; never raises."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)
