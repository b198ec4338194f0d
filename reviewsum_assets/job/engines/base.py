"""What an engine is: batches of token ids in, batches of summary token ids out."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class EngineOutOfMemory(Exception):  # noqa: N818 - named after what happened, as torch does
    """A batch did not fit into the device's memory; a smaller one may."""


@dataclass(frozen=True)
class EngineInfo:
    """What made a summary, for its manifest."""

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
        """Name, device, number type and library versions."""


def device_name(kind: str) -> str:
    """What the device is called: a GPU by its model, a CPU by its architecture."""
    if kind == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()
