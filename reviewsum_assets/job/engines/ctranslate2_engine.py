"""Generates with CTranslate2: the same summaries as transformers in float32, several times faster.

https://opennmt.net/CTranslate2/ . One replica a process: several processes of one thread use a
CPU better than one process of several threads, and a GPU that runs out of memory takes only its
own process with it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2

from reviewsum_assets.errors import JobError, SettingsError
from reviewsum_assets.job.devices import device_name, load_cublas
from reviewsum_assets.job.engines.base import (
    DecodingRules,
    EngineInfo,
    EngineOutOfMemory,
    is_out_of_memory,
)
from reviewsum_assets.settings import SummarySettings

RULES_FILE = "decoding.json"
NO_CUBLAS = (
    "CTranslate2 needs cuBLAS of CUDA 12: install the extra `gpu` (pip install '.[gpu]') or a CUDA "
    "12 toolkit"
)
_VOCABULARY_FILE = "shared_vocabulary.json"
# Integer weights; what is computed between them is in the other type.
_INT8 = {"cpu": "int8_float32", "cuda": "int8_bfloat16"}


class CTranslate2Engine:
    """A converted model on one device.

    Args:
        translator: holds the model.
        vocabulary: tokens by id.
        rules: of the model.
        settings: how to generate.
    """

    def __init__(
        self,
        translator: ctranslate2.Translator,
        vocabulary: Sequence[str],
        rules: DecodingRules,
        settings: SummarySettings,
    ) -> None:
        self._translator = translator
        self._tokens = vocabulary
        self._ids = {token: number for number, token in enumerate(vocabulary)}
        self._special = frozenset(rules.special_ids)
        self._first = rules.forced_first_token
        self._options = rules.options(settings)

    @classmethod
    def load(
        cls, directory: Path, settings: SummarySettings, *, device: str, dtype: str, threads: int
    ) -> CTranslate2Engine:
        """Load a conversion; see ``conversion``.

        Args:
            directory: of the conversion.
            settings: how to generate.
            device: ``cpu`` or ``cuda``, the one GPU that this process sees.
            dtype: of the arithmetic; ``auto`` is float32 on a CPU and on GPUs without bfloat16,
                bfloat16 on others: float16 can overflow in Pegasus' encoder.
            threads: of the CPU.

        Raises:
            SettingsError: the device cannot compute in this type.
        """
        if device == "cuda":
            load_cublas()
        supported = ctranslate2.get_supported_compute_types(device)
        wanted = _compute_type(dtype, device, supported)
        if wanted not in supported:
            raise SettingsError(
                f"dtype {dtype} is not possible on this {device}: CTranslate2 offers "
                f"{', '.join(sorted(supported))} there"
            )
        translator = ctranslate2.Translator(
            str(directory),
            device=device,
            compute_type=wanted,
            inter_threads=1,
            intra_threads=threads,
        )
        return cls(
            translator,
            json.loads((directory / _VOCABULARY_FILE).read_bytes()),
            DecodingRules.model_validate_json((directory / RULES_FILE).read_bytes()),
            settings,
        )

    def generate(self, batch: Sequence[Sequence[int]]) -> list[list[int]]:
        """Summarize chunks; see ``Engine``."""
        # An id that the model does not have raises here, as it must.
        source = [[self._tokens[token] for token in row] for row in batch]
        prefix = None if self._first is None else [[self._first]] * len(source)
        try:
            results = self._translator.translate_batch(
                source, target_prefix=prefix, max_batch_size=0, **self._options
            )
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise EngineOutOfMemory(str(error)) from error
            if "libcublas" in str(error):
                raise JobError(f"{error}. {NO_CUBLAS}") from error
            raise
        return [self._summary_ids(result) for result in results]

    def describe(self) -> EngineInfo:
        """Name, device, number type and library versions."""
        device = self._translator.device
        return EngineInfo(
            name="ctranslate2",
            device=f"{device} ({device_name(device)})",
            dtype=self._translator.compute_type,
            versions={
                "ctranslate2": ctranslate2.__version__,
                "python": platform.python_version(),
            },
        )

    def _summary_ids(self, result: Any) -> list[int]:
        ids = (self._ids[token] for token in result.hypotheses[0])
        return [number for number in ids if number not in self._special]


def _compute_type(dtype: str, device: str, supported: set[str]) -> str:
    if dtype == "auto":
        return "bfloat16" if device == "cuda" and "bfloat16" in supported else "float32"
    return _INT8[device] if dtype == "int8" else dtype
