"""transformers: every sequence-to-sequence model that the library can load."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers
from transformers import AutoModelForSeq2SeqLM
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from reviewsum_assets.errors import JobError, UnfitModelError
from reviewsum_assets.job.devices import device_name
from reviewsum_assets.job.engines.base import EngineInfo, EngineOutOfMemory, is_out_of_memory
from reviewsum_assets.job.models.fit import weights_sentence
from reviewsum_assets.job.models.layout import Differences
from reviewsum_assets.settings import SummarySettings

_SPECIAL_TOKENS = ("pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id")
# bfloat16 arithmetic in hardware came with the Ampere generation.
_BFLOAT16_CAPABILITY = (8, 0)


def load_model(kind: Any, directory: Path, **options: Any) -> Any:
    """Load a model of transformers from safe weights, all of which are its own.

    ``kind`` is the class to load, ``options`` are others of ``from_pretrained``.

    Raises:
        UnfitModelError: Weights are missing or have another shape; transformers warns and goes on
            with random numbers.
    """
    model, report = kind.from_pretrained(
        directory,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # they are reported, and refused below
        output_loading_info=True,
        **options,
    )
    missing = [name for name in report["missing_keys"] if not _is_computed(model, name)]
    reshaped = [
        f"{name} is {tuple(found)}, expected {tuple(expected)}"
        for name, found, expected in report["mismatched_keys"]
    ]
    if missing or reshaped:
        differences = Differences(sorted(missing), sorted(report["unexpected_keys"]), reshaped)
        raise UnfitModelError(weights_sentence(str(directory), differences))
    return model


def _is_computed(model: Any, name: str) -> bool:
    """Whether a weight need not be in the file: Pegasus' positions follow a formula."""
    return bool(model.config.model_type == "pegasus" and name.endswith("embed_positions.weight"))


class SharedSourceCache(EncoderDecoderCache):  # type: ignore[misc]  # transformers is untyped
    """A cache that does not reorder the encoder's half with the beams.

    All beams of a source share its encoder output, and beams move within a source only. Copying
    that half at every step changes nothing and takes half of the time (transformers issue 28357).
    """

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Reorder the decoder's half."""
        self.self_attention_cache.reorder_cache(beam_idx)


class TransformersEngine:
    """A model directory with safetensors weights on one device; see ``load_engine``."""

    def __init__(
        self, directory: Path, settings: SummarySettings, *, device: str, dtype: str, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        # The older versions in some images do not know its new name.
        warnings.filterwarnings("ignore", "`past_key_values` is deprecated", FutureWarning)
        self._device = accelerate.PartialState(cpu=device == "cpu").device
        if self._device.type != device:
            raise JobError(
                f"PyTorch {torch.__version__} cannot use the GPU. To fix: install a PyTorch and a "
                "driver that fit each other, or set device to cpu"
            )
        if dtype == "auto":
            has_bfloat16 = (
                device == "cuda"
                and torch.cuda.get_device_capability(self._device) >= _BFLOAT16_CAPABILITY
            )
            dtype = "bfloat16" if has_bfloat16 else "float32"
        model = load_model(
            AutoModelForSeq2SeqLM,
            directory,
            dtype=getattr(torch, dtype),
            device_map={"": self._device},
        )
        self._model = model.eval()
        self._pad = model.config.pad_token_id
        self._special = {getattr(model.config, name, None) for name in _SPECIAL_TOKENS}
        # The model's own generation config has the other options.
        self._generation = {
            "num_beams": settings.num_beams,
            "max_length": settings.max_length,
            "min_length": settings.min_length,
            "length_penalty": settings.length_penalty,
            "early_stopping": settings.early_stopping,
            "renormalize_logits": settings.renormalize_logits,
            "do_sample": False,
        }

    def generate(self, batch: Sequence[Sequence[int]]) -> list[list[int]]:
        """Summarize chunks; see ``Engine``."""
        longest = max(map(len, batch))
        ids = torch.tensor([[*row, *[self._pad] * (longest - len(row))] for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        try:
            with torch.inference_mode():
                output = self._model.generate(
                    input_ids=ids.to(self._device),
                    attention_mask=mask.to(self._device),
                    past_key_values=SharedSourceCache(DynamicCache(), DynamicCache()),
                    **self._generation,
                )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise EngineOutOfMemory(str(error)) from error
        return [[token for token in row if token not in self._special] for row in output.tolist()]

    def describe(self) -> EngineInfo:
        """Return name, device, number type and library versions."""
        return EngineInfo(
            name="transformers",
            device=f"{self._device.type} ({device_name(self._device.type)})",
            dtype=str(self._model.dtype).removeprefix("torch."),
            versions={
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "accelerate": accelerate.__version__,
                "python": platform.python_version(),
            },
        )
