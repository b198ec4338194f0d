"""The interface of an engine, and the facts about models that both engines must agree on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.settings import SummarySettings

# Every worker summarizes these texts first, see ``checkpoints.manifest.record_reference``: they
# never change, so a changed summary is not due to the reviews. A conversion is used only if both
# engines summarize them alike, word for word.
CANARY_TEXTS = (
    "Works well. I have used it every day for two months, and it still looks like new.",
    "Stopped working after a week! The seller never answered, so I sent it back. Do not buy this.",
    "The sound is clear and the battery lasts about 10 hours, but the case feels cheap and the "
    "manual is no help. For $25 I am happy with it; my brother bought the larger one and says it "
    "charges faster. Two of us had to update the firmware first.",
    "My daughter (8) loves the color. Easy to set up, easy to clean, a bit heavy for small hands.",
)
# Rules that change summaries and that CTranslate2 lacks or applies at another point of the search,
# with the value that disables each.
_UNKNOWN_TO_CTRANSLATE2: Mapping[str, object] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
    "max_new_tokens": None,
    "min_new_tokens": None,
    "num_beam_groups": 1,
    "repetition_penalty": 1.0,
    "sequence_bias": None,
    "stop_strings": None,
    "suppress_tokens": None,
}
# Phrases of CUDA, cuBLAS, MKL and PyTorch in the text of a plain RuntimeError.
_OUT_OF_MEMORY = (
    "out of memory",
    "ALLOC_FAILED",  # CUBLAS_STATUS_, CUDNN_STATUS_
    "failed to allocate memory",
    "can't allocate memory",
    "not enough memory",
)


class EngineOutOfMemory(Exception):  # noqa: N818 - named after the event, as in torch
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
            EngineOutOfMemory: The batch is too large for the device.
        """

    def describe(self) -> EngineInfo:
        """Return name, device, number type and library versions; never raises."""


class DecodingRules(BaseModel):
    """Rules of a model's generation config; ``special_ids`` are never part of a summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    forced_first_token: str | None
    forces_end: bool
    no_repeat_ngram_size: int
    special_ids: tuple[int, ...]

    def options(self, settings: SummarySettings) -> dict[str, Any]:
        """Return options of ``ctranslate2.Translator.translate_batch`` equal to transformers'.

        transformers counts the start token, CTranslate2 does not: each length is one less. Where
        the end token is forced it is two less, since CTranslate2 counts no end token either.
        """
        return {
            "beam_size": settings.num_beams,
            "length_penalty": settings.length_penalty,
            "max_decoding_length": settings.max_length - (2 if self.forces_end else 1),
            "min_decoding_length": max(0, settings.min_length - 1),
            "no_repeat_ngram_size": self.no_repeat_ngram_size,
        }


def rules_of(model: Any, tokenizer: Any) -> DecodingRules:
    """Return the rules that ``generate`` of a transformers model follows.

    Raises:
        ValueError: CTranslate2 cannot follow one of them, which is named.
    """
    generation, config = model.generation_config, model.config
    for name, disabled in _UNKNOWN_TO_CTRANSLATE2.items():
        if getattr(generation, name, None) not in (None, disabled):
            raise ValueError(f"its generation config sets {name}, which CTranslate2 does not know")
    if not isinstance(generation.eos_token_id, int):
        # Several end tokens are a legal value, so not a TypeError.
        raise ValueError("its generation config has several end tokens")  # noqa: TRY004
    first = generation.forced_bos_token_id
    ids = [getattr(config, f"{name}_token_id", None) for name in ("pad", "eos", "bos")]
    ids.append(generation.decoder_start_token_id)
    return DecodingRules(
        forced_first_token=None if first is None else tokenizer.convert_ids_to_tokens(first),
        forces_end=generation.forced_eos_token_id is not None,
        no_repeat_ngram_size=generation.no_repeat_ngram_size or 0,
        special_ids=tuple(sorted({number for number in ids if number is not None})),
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of any device ran out."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def canary_key(text: str) -> str:
    """Return the name of a canary text in records."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
