"""Names and shapes of the weights of each family, computed from a config without its libraries.

They are those of transformers' models, which tests compare. What a model can do without is optional
here, so that only a model that would run with random weights lacks something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reviewsum_assets.errors import UnfitModelError

Family = Literal["pegasus", "bart", "t5"]
Shape = tuple[int, ...]

# transformers' defaults for entries that a config leaves out.
_BART = {
    "vocab_size": 50265,
    "max_position_embeddings": 1024,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
}
_T5 = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
}
# Parts of a stack: a weight there without a place in the model says that the config is another's.
_IN_A_STACK = re.compile(r"\.(layers|block)\.\d+\.")
# transformers ignores it on purpose: some T5 models have it.
_IGNORED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


@dataclass(frozen=True)
class Layout:
    """Shapes by name: all ``required``, any of ``embeddings``, which are tied, and ``optional``."""

    required: Mapping[str, Shape]
    embeddings: Mapping[str, Shape]
    optional: Mapping[str, Shape]

    def differences(self, found: Mapping[str, Shape]) -> Differences:
        """Compare the weights of a file with the model."""
        bare = not any(name.startswith("model.") for name in found)
        if bare and any(name.startswith("model.") for name in self.required):
            # The weights of the model without its output layer, which is tied.
            heads = {"lm_head.weight", "final_logits_bias"}
            found = {n if n in heads else f"model.{n}": shape for n, shape in found.items()}
        known = {**self.required, **self.embeddings, **self.optional}
        missing = [name for name in self.required if name not in found]
        if not any(name in found for name in self.embeddings):
            missing.append(next(iter(self.embeddings)))
        unexpected = [name for name in found if name not in known and name != _IGNORED]
        reshaped = [
            f"{name} is {_by(found[name])}, expected {_by(shape)}"
            for name, shape in known.items()
            if found.get(name, shape) != shape
        ]
        return Differences(missing, unexpected, reshaped)


@dataclass(frozen=True)
class Differences:
    """Weights that a model lacks, or that have no place or another shape in it."""

    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]

    @property
    def harm(self) -> bool:
        """Whether the model would differ from the one that was trained: heads may be left out."""
        stray = any(_IN_A_STACK.search(name) for name in self.unexpected)
        return bool(self.missing or self.reshaped or stray)


def layout_of(family: Family, config: Mapping[str, Any]) -> Layout:
    """Return the layout of a model with this config.

    Raises:
        UnfitModelError: An entry is not a positive number.
    """
    return _t5_layout(config) if family == "t5" else _bart_layout(family, config)


def positions_of(family: Family, config: Mapping[str, Any]) -> int | None:
    """Return the tokens that fit into the encoder, or the decoder; None if there is no limit.

    Pegasus computes its positions by a formula, and yet has a table of them: both engines refuse a
    longer text. T5 knows distances only, and its ``n_positions`` limits nothing.
    """
    return None if family == "t5" else _number(config, _BART, "max_position_embeddings")


def _bart_layout(family: Family, config: Mapping[str, Any]) -> Layout:
    size = {name: _number(config, _BART, name) for name in _BART}
    width, rows = size["d_model"], size["vocab_size"]
    # BART's positions begin at 2.
    positions = size["max_position_embeddings"] + (2 if family == "bart" else 0)
    required: dict[str, Shape] = {}
    optional: dict[str, Shape] = {"final_logits_bias": (1, rows)}
    for stack in ("encoder", "decoder"):
        name = f"model.{stack}"
        table = required if family == "bart" else optional
        table[f"{name}.embed_positions.weight"] = (positions, width)
        norm = "layernorm_embedding" if family == "bart" else "layer_norm"
        required.update(_affine(f"{name}.{norm}", width))
        inner = size[f"{stack}_ffn_dim"]
        attentions = ("self_attn",) if stack == "encoder" else ("self_attn", "encoder_attn")
        for number in range(size[f"{stack}_layers"]):
            layer = f"{name}.layers.{number}"
            for attention in attentions:
                for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
                    required.update(_affine(f"{layer}.{attention}.{projection}", width, width))
                required.update(_affine(f"{layer}.{attention}_layer_norm", width))
            required.update(_affine(f"{layer}.fc1", inner, width))
            required.update(_affine(f"{layer}.fc2", width, inner))
            required.update(_affine(f"{layer}.final_layer_norm", width))
    tied = ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")
    return Layout(required, {f"{name}.weight": (rows, width) for name in tied}, optional)


def _affine(name: str, *shape: int) -> Iterator[tuple[str, Shape]]:
    """A weight and its bias."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _t5_layout(config: Mapping[str, Any]) -> Layout:
    size = {name: _number(config, _T5, name) for name in _T5}
    width, rows, inner = size["d_model"], size["vocab_size"], size["num_heads"] * size["d_kv"]
    is_gated = str(config.get("feed_forward_proj", "relu")).startswith("gated-")
    inputs = ("wi_0", "wi_1") if is_gated else ("wi",)
    layers = {"encoder": size["num_layers"], "decoder": size["num_layers"]}
    if config.get("num_decoder_layers") is not None:
        layers["decoder"] = _number(config, {}, "num_decoder_layers")
    required: dict[str, Shape] = {}
    for stack, count in layers.items():
        attentions = ["SelfAttention", "EncDecAttention"][: 1 if stack == "encoder" else 2]
        for number in range(count):
            block = f"{stack}.block.{number}.layer"
            for place, attention in enumerate(attentions):
                for projection in ("q", "k", "v"):
                    required[f"{block}.{place}.{attention}.{projection}.weight"] = (inner, width)
                required[f"{block}.{place}.{attention}.o.weight"] = (width, inner)
                required[f"{block}.{place}.layer_norm.weight"] = (width,)
            last = f"{block}.{len(attentions)}"
            for name in inputs:
                required[f"{last}.DenseReluDense.{name}.weight"] = (size["d_ff"], width)
            required[f"{last}.DenseReluDense.wo.weight"] = (width, size["d_ff"])
            required[f"{last}.layer_norm.weight"] = (width,)
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        required[bias] = (size["relative_attention_num_buckets"], size["num_heads"])
        required[f"{stack}.final_layer_norm.weight"] = (width,)
    tied = ("shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head")
    return Layout(required, {f"{name}.weight": (rows, width) for name in tied}, {})


def _number(config: Mapping[str, Any], defaults: Mapping[str, int], name: str) -> int:
    value = config.get(name, defaults.get(name))
    if not isinstance(value, int) or value < 1:
        raise UnfitModelError(f"{name} in config.json is {value!r}, not a number")
    return value


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))
