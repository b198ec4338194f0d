"""CTranslate2: the summaries of transformers in float32, several times faster.

https://opennmt.net/CTranslate2/ . One replica per process: several processes of one thread use a
CPU better than one process of several threads, and a GPU without memory ends only one process.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path

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
VOCABULARY_FILE = "shared_vocabulary.json"
NO_CUBLAS = (
    "CTranslate2 needs cuBLAS of CUDA 12: install the extra `gpu` (pip install '.[gpu]') or a CUDA "
    "12 toolkit"
)
# Integer weights; the arithmetic between them uses the other type.
_INT8 = {"cpu": "int8_float32", "cuda": "int8_bfloat16"}


class CTranslate2Engine:
    """A conversion on one device; see ``load_engine``."""

    def __init__(
        self, directory: Path, settings: SummarySettings, *, device: str, dtype: str, threads: int
    ) -> None:
        if device == "cuda":
            load_cublas()
        supported = ctranslate2.get_supported_compute_types(device)
        if dtype == "auto":
            wanted = "bfloat16" if device == "cuda" and "bfloat16" in supported else "float32"
        else:
            wanted = _INT8[device] if dtype == "int8" else dtype
        if wanted not in supported:
            raise SettingsError(
                f"dtype {dtype} is not possible on this {device}: CTranslate2 offers "
                f"{', '.join(sorted(supported))} there"
            )
        self._translator = ctranslate2.Translator(
            str(directory),
            device=device,
            compute_type=wanted,
            inter_threads=1,
            intra_threads=threads,
        )
        rules = DecodingRules.model_validate_json((directory / RULES_FILE).read_bytes())
        self._tokens = json.loads((directory / VOCABULARY_FILE).read_bytes())
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        self._special = frozenset(rules.special_ids)
        self._first = rules.forced_first_token
        self._options = rules.options(settings)

    def generate(self, batch: Sequence[Sequence[int]]) -> list[list[int]]:
        """Summarize chunks; see ``Engine``."""
        # An id unknown to the model must raise, and raises an IndexError here.
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
        summaries = ([self._ids[token] for token in one.hypotheses[0]] for one in results)
        return [[number for number in ids if number not in self._special] for ids in summaries]

    def describe(self) -> EngineInfo:
        """Return name, device, number type and library versions."""
        device = self._translator.device
        versions = {"ctranslate2": ctranslate2.__version__, "python": platform.python_version()}
        return EngineInfo(
            name="ctranslate2",
            device=f"{device} ({device_name(device)})",
            dtype=self._translator.compute_type,
            versions=versions,
        )
