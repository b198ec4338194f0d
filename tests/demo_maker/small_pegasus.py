"""A Pegasus small enough to learn its task on two CPU cores in minutes.

Attention that begins blind spends most of such a training on finding neighbors and equal words.
Here the first layers begin with heads that look one position back or ahead, and cross-attention
begins by matching equal things.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers import PegasusConfig, PegasusForConditionalGeneration
from transformers.models.pegasus.modeling_pegasus import PegasusAttention

from reviewsum_assets.demo import DEMO_MODEL

# As in the config.json of the demo model.
_WIDTH = 192
_HEAD_WIDTH = _WIDTH // 4
# Large enough that the chosen neighbor outweighs the next one several times over.
_NEIGHBOR_GAIN, _MATCH_GAIN = 5.0, 1.2


def small_pegasus(vocabulary: int) -> PegasusForConditionalGeneration:
    """Build the model with its starting weights."""
    config = PegasusConfig.from_pretrained(DEMO_MODEL, vocab_size=vocabulary)
    model = PegasusForConditionalGeneration(config)
    with torch.no_grad():
        _start(model)
    return model


def _start(model: PegasusForConditionalGeneration) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            into_residual = name.endswith(("fc2", "out_proj"))
            nn.init.normal_(module.weight, std=_WIDTH**-0.5 * (0.5 if into_residual else 1.0))
    encoder, decoder = model.model.encoder, model.model.decoder
    _look_aside(encoder.layers[0].self_attn, head=0, offset=-1)
    _look_aside(encoder.layers[0].self_attn, head=1, offset=1)
    _look_aside(decoder.layers[0].self_attn, head=0, offset=-1)
    for layer in decoder.layers:
        weight = torch.randn(_WIDTH, _WIDTH) * _WIDTH**-0.5 * _MATCH_GAIN
        layer.encoder_attn.q_proj.weight.copy_(weight)
        layer.encoder_attn.k_proj.weight.copy_(weight)


def _look_aside(attention: PegasusAttention, *, head: int, offset: int) -> None:
    """Make a head attend to the position ``offset`` away.

    Position p is embedded as sin(p w) and cos(p w) for falling frequencies w, so turning a query's
    pairs by the angle ``offset * w`` makes it equal to the key of its neighbor.
    """
    pairs = _HEAD_WIDTH // 2
    half = _WIDTH // 2
    angle = offset * 10000.0 ** (-2 * torch.arange(pairs) / _WIDTH)
    key = torch.zeros(_HEAD_WIDTH, _WIDTH)
    query = torch.zeros(_HEAD_WIDTH, _WIDTH)
    sine, cosine = torch.arange(pairs), torch.arange(pairs) + pairs
    key[sine, sine] = key[cosine, sine + half] = 1.0
    query[sine, sine] = query[cosine, sine + half] = torch.cos(angle)
    query[sine, sine + half] = torch.sin(angle)
    query[cosine, sine] = -torch.sin(angle)
    rows = slice(head * _HEAD_WIDTH, (head + 1) * _HEAD_WIDTH)
    gain = math.sqrt(_NEIGHBOR_GAIN)
    attention.q_proj.weight[rows] = query * gain
    attention.k_proj.weight[rows] = key * gain
