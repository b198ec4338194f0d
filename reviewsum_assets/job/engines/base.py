"""What a model's own generation config adds to the settings, in terms that CTranslate2 knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.settings import SummarySettings

# Rules that would change summaries and that CTranslate2 lacks or applies at another point of the
# search; each with the value that means it is off.
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


class DecodingRules(BaseModel):
    """Rules of one model; ``special_ids`` are never part of a summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    forced_first_token: str | None
    forces_end: bool
    no_repeat_ngram_size: int
    special_ids: tuple[int, ...]

    def options(self, settings: SummarySettings) -> dict[str, Any]:
        """Options of ``ctranslate2.Translator.translate_batch`` that mean what transformers' do.

        transformers counts the start token, CTranslate2 does not: hence one less of each length.
        Where the last token is forced to be the end token, that is another one less, since
        CTranslate2 counts no end token either.
        """
        return {
            "beam_size": settings.num_beams,
            "length_penalty": settings.length_penalty,
            "max_decoding_length": settings.max_length - (2 if self.forces_end else 1),
            "min_decoding_length": max(0, settings.min_length - 1),
            "no_repeat_ngram_size": self.no_repeat_ngram_size,
        }


def rules_of(model: Any, tokenizer: Any) -> DecodingRules:
    """The rules that ``generate`` of a transformers model follows.

    Raises:
        ValueError: there is one that CTranslate2 cannot follow; names it.
    """
    generation, config = model.generation_config, model.config
    for name, off in _UNKNOWN_TO_CTRANSLATE2.items():
        if getattr(generation, name, None) not in (None, off):
            raise ValueError(f"its generation config sets {name}, which CTranslate2 does not know")
    # Not a TypeError: several are legal, and nothing that CTranslate2 can follow.
    if not isinstance(generation.eos_token_id, int):
        raise ValueError("its generation config has several end tokens")  # noqa: TRY004
    first = generation.forced_bos_token_id
    ids = (getattr(config, f"{name}_token_id", None) for name in ("pad", "eos", "bos"))
    return DecodingRules(
        forced_first_token=None if first is None else tokenizer.convert_ids_to_tokens(first),
        forces_end=generation.forced_eos_token_id is not None,
        no_repeat_ngram_size=generation.no_repeat_ngram_size or 0,
        special_ids=tuple(
            sorted({i for i in (*ids, generation.decoder_start_token_id) if i is not None})
        ),
    )


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
