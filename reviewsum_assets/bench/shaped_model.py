"""A Pegasus of any shape with random weights: as slow as the real one, and made without it.

What a model costs depends on its shape alone, so its pace can be measured on a machine that cannot
get its weights. What it says is noise, and goes on for as long as it may.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reviewsum_assets.demo import DEMO_MODEL

if TYPE_CHECKING:
    from transformers import PegasusConfig

# Every Pegasus has these; transformers takes the first four for granted, CTranslate2 asks.
_PEGASUS_TRAITS: dict[str, Any] = {
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
# Ids that Pegasus has before the pieces of its vocabulary: pad, end, two masks and <unk_2> to
# <unk_102>, less the pad and the end that the pieces begin with themselves.
_IDS_BEFORE_PIECES = 103


@dataclass(frozen=True)
class PegasusShape:
    """What of a Pegasus decides its cost; ``ffn`` is the width of both feed-forward networks."""

    encoder_layers: int
    decoder_layers: int
    d_model: int
    heads: int
    ffn: int
    vocabulary: int
    max_positions: int

    def config(self) -> PegasusConfig:
        """The model's config, in all else that of google/pegasus-cnn_dailymail."""
        from transformers import PegasusConfig

        return PegasusConfig(
            vocab_size=self.vocabulary,
            d_model=self.d_model,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_ffn_dim=self.ffn,
            decoder_ffn_dim=self.ffn,
            max_position_embeddings=self.max_positions,
            init_std=0.02,
            **_PEGASUS_TRAITS,
        )


SHAPES = {
    # From the config.json of google/pegasus-cnn_dailymail; 571M parameters.
    "pegasus-cnn_dailymail": PegasusShape(
        encoder_layers=16,
        decoder_layers=16,
        d_model=1024,
        heads=16,
        ffn=4096,
        vocabulary=96_103,
        max_positions=1024,
    ),
    "tiny": PegasusShape(
        encoder_layers=2,
        decoder_layers=1,
        d_model=32,
        heads=2,
        ffn=64,
        vocabulary=4_200,
        max_positions=512,
    ),
}


def write_shaped_model(directory: Path, shape: PegasusShape, *, seed: int = 0) -> None:
    """Write a Pegasus with float32 random weights in the hub's layout.

    Its tokenizer cuts text exactly as the demo model's does, into more tokens than a vocabulary of
    its size would. Memory stays below twice the size of the weights.

    Args:
        directory: made where it does not exist; files of the same names are replaced.
        shape: of the model, whose vocabulary is also the size of its tokenizer.
        seed: of the weights; the same seed writes the same weights.

    Raises:
        ValueError: the vocabulary is smaller than the demo model's, or the heads do not divide
            ``d_model``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _write_vocabulary(directory / "spiece.model", shape.vocabulary - _IDS_BEFORE_PIECES)
    _write_weights(directory, shape, seed)
    # After the weights: saving them writes a generation_config.json of its own.
    for name in ("generation_config.json", "special_tokens_map.json"):
        shutil.copyfile(DEMO_MODEL / name, directory / name)
    tokenizer = json.loads((DEMO_MODEL / "tokenizer_config.json").read_bytes())
    tokenizer["model_max_length"] = shape.max_positions
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2) + "\n")


def _write_vocabulary(path: Path, pieces: int) -> None:
    """Write the demo model's pieces, followed by others that no text matches, up to ``pieces``."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(
        (DEMO_MODEL / "spiece.model").read_bytes()
    )
    if pieces < len(model.pieces):
        raise ValueError(
            f"a vocabulary of {pieces + _IDS_BEFORE_PIECES:,} is too small: the tokenizer alone "
            f"has {len(model.pieces) + _IDS_BEFORE_PIECES:,} entries"
        )
    piece_type = model.SentencePiece
    # A character without a piece costs a fixed amount more than the worst piece: a filler worse
    # than that would change how text with such characters is cut.
    worst = min(piece.score for piece in model.pieces if piece.type == piece_type.NORMAL)
    for number in range(len(model.pieces), pieces):
        # Spaces reach the pieces as U+2581, so none with a space is ever found. The type says
        # the same to sentencepiece; transformers reads no types.
        model.pieces.add(piece=f"<filler {number}>", score=worst, type=piece_type.UNUSED)
    model.trainer_spec.vocab_size = pieces
    path.write_bytes(model.SerializeToString())


def _write_weights(directory: Path, shape: PegasusShape, seed: int) -> None:
    """Write config.json and model.safetensors, initialized as transformers does for a training."""
    import torch
    from transformers import PegasusForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PegasusForConditionalGeneration(shape.config())
    model.save_pretrained(directory)
