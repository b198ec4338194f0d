"""The JSON files beside the weights of a Pegasus, as its checkpoints on the model hub have them.

There is no tokenizer.json: what reads the model must be able to start from spiece.model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_POSITIONS = 512
# What the config of every Pegasus has in common, whatever its size; the first lines for readers
# such as CTranslate2, which ask for what transformers takes for granted.
PEGASUS_TRAITS: dict[str, Any] = {
    "normalize_before": True,
    "normalize_embedding": False,
    "add_final_layer_norm": True,
    "static_position_embeddings": True,
    "activation_function": "relu",
    "scale_embedding": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": 1,
}
# Pegasus reserves the ids before its first vocabulary piece for masks used in pre-training.
_RESERVED = ("<mask_1>", *(f"<unk_{number}>" for number in range(2, 103)))
# The mask tokens are left to the tokenizer's defaults: transformers 5 gives other ids to a
# vocabulary whose masks are named, and shifts all of it if only one of the two is.
_SPECIAL_TOKENS: dict[str, Any] = {
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "additional_special_tokens": list(_RESERVED),
}
_TOKENIZER_CONFIG: dict[str, Any] = {
    "model_max_length": MAX_POSITIONS,
    "tokenizer_class": "PegasusTokenizer",
}
_GENERATION_CONFIG: dict[str, Any] = {
    "bos_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "forced_eos_token_id": 1,
    "length_penalty": 0.8,
    "max_length": 128,
    "min_length": 32,
    "num_beams": 8,
    "pad_token_id": 0,
}


def write_tokenizer_files(directory: Path) -> None:
    """Write the files that turn a spiece.model into a Pegasus tokenizer."""
    _write(directory / "tokenizer_config.json", _TOKENIZER_CONFIG)
    _write(directory / "special_tokens_map.json", _SPECIAL_TOKENS)


def write_generation_config(directory: Path) -> None:
    """Write how summaries are generated when the caller asks for nothing else."""
    _write(directory / "generation_config.json", _GENERATION_CONFIG)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
