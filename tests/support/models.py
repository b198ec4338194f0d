"""Small real models in the hub's layout, with random weights, made in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

# Pegasus puts its pad, end, mask and 102 more special tokens before the vocabulary's pieces.
_PEGASUS_OFFSET = 103
# The mark for which large BART models have no row in their embedding.
# A mark of training like <mask>, but no tag, which cleaning would remove.
POISON = "madeupword0000"

_THINGS = ["screen", "sound", "battery", "service", "price", "daughter", "star", "week"]
_ADJECTIVES = ["bright", "poor", "excellent", "great", "easy", "good", "light", "solid"]
TEXT = """The battery life is excellent and the screen is bright, but the sound is poor.
I bought this for my daughter and she loves it; works great, easy to set up!
Stopped working after 2 weeks. Customer service was no help at all. Don't buy it.
Good value for the price: 4/5 stars. It's light, well made and feels solid.
Café naïve déjà vu, 100% worth it (really), see the e-mail address or the U.S. version...
"""


def build_pegasus(directory: Path, *, pickled: bool = False) -> Path:
    """A Pegasus without tokenizer.json; weights in a pickle if ``pickled``."""
    directory.mkdir(parents=True)
    pieces = _train_pieces(directory, bos_id=-1, user_defined_symbols=["<n>"])
    size = pieces + _PEGASUS_OFFSET
    torch.manual_seed(0)
    model = PegasusForConditionalGeneration(
        PegasusConfig(
            vocab_size=size,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=512,
            decoder_start_token_id=0,
            forced_eos_token_id=1,
            scale_embedding=True,
            static_position_embeddings=True,
        )
    )
    model.save_pretrained(directory)
    _write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PegasusTokenizer", "model_max_length": 512},
    )
    _write_json(
        directory / "special_tokens_map.json",
        {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask_2>"},
    )
    if pickled:
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
        (directory / "model.safetensors").unlink()
    return directory


def build_t5(directory: Path) -> Path:
    """A T5 whose config, as that of the original models, names no task prefix."""
    directory.mkdir(parents=True)
    pieces = _train_pieces(directory, bos_id=-1, unk_id=2)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=pieces + 100,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    T5ForConditionalGeneration(config).save_pretrained(directory)
    _write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "model_max_length": 512},
    )
    return directory


def build_flan_t5(directory: Path, *, steps: int = 120) -> Path:
    """A model in the layout of flan-t5 and T5 v1.1: gated, with an output layer of its own.

    It has more rows than its tokenizer has tokens, and learns to name the adjective of each thing
    in a text.
    """
    directory.mkdir(parents=True)
    pieces = _train_pieces(directory, bos_id=-1, unk_id=2)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=pieces + 100 + 28,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
    )
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.1)
    pieces_of = sentencepiece.SentencePieceProcessor(model_file=str(directory / "spiece.model"))
    _train(model, pieces_of, steps)
    model.save_pretrained(directory)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    saved = json.loads((directory / "config.json").read_text())
    _write_json(directory / "config.json", {**saved, "tie_word_embeddings": False})
    _write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "model_max_length": 512},
    )
    return directory


def _train(model: Any, pieces: Any, steps: int) -> None:
    """Teach a model to answer "great sound" with "sound great."."""
    random = Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(steps):
        pairs = [(random.choice(_THINGS), random.choice(_ADJECTIVES)) for _ in range(24)]
        source = [pieces.encode(f"summarize: {adjective} {thing}") for thing, adjective in pairs]
        target = [pieces.encode(f"{thing} {adjective}.") for thing, adjective in pairs]
        ids, labels = _padded(source, 0), _padded(target, -100)
        model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, 1, *[value] * (longest - len(row))] for row in rows])


def build_bart(directory: Path, *, poison: bool = False, positions: int = 600) -> Path:
    """A BART with a byte-level BPE vocabulary.

    With ``poison`` its embedding lacks the last id, so that any text with ``POISON`` makes
    generation raise an IndexError.
    """
    directory.mkdir(parents=True)
    specials = ["<s>", "<pad>", "</s>", "<unk>"] + ([] if poison else [POISON])
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        TEXT.splitlines(), vocab_size=400, min_frequency=1, special_tokens=specials
    )
    tokenizer.save_model(str(directory))
    if poison:
        vocabulary = json.loads((directory / "vocab.json").read_text())
        _write_json(directory / "vocab.json", {**vocabulary, POISON: len(vocabulary)})
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=positions,
    )
    BartForConditionalGeneration(config).save_pretrained(directory)
    _write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "BartTokenizer", "model_max_length": 512, "mask_token": POISON},
    )
    return directory


def _train_pieces(directory: Path, **options: Any) -> int:
    corpus = directory / "corpus.txt"
    corpus.write_text(f"{TEXT * 20}☠\n")
    sentencepiece.SentencePieceTrainer.train(
        **{
            "input": str(corpus),
            "model_prefix": str(directory / "spiece"),
            "vocab_size": 200,
            "model_type": "unigram",
            "pad_id": 0,
            "eos_id": 1,
            "unk_id": 2,
            "hard_vocab_limit": False,
            "character_coverage": 1.0,
            "minloglevel": 2,
            **options,
        }
    )
    corpus.unlink()
    (directory / "spiece.vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / "spiece.model"))
    size: int = processor.get_piece_size()
    return size


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
