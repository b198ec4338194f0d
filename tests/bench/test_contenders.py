"""A model of a given shape is a real Pegasus directory: it loads, generates and converts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from reviewsum_assets.bench.contenders import SHAPES, shaped_config, write_shaped_model
from reviewsum_assets.demo import DEMO_MODEL

TEXTS = [
    "The battery easily lasts a week! Music sounds full and warm.<n>Café naïve, 4/5 stars.",
    "Unknown \N{SNOWMAN} characters \N{SKULL AND CROSSBONES}, \N{CJK UNIFIED IDEOGRAPH-65E5}\t\n.",
    "<filler 4000> <filler\N{LOWER ONE EIGHTH BLOCK}4001> filler 4002>",
]


def test_a_shaped_model_is_float32_and_cuts_text_as_the_demo_model_does(tmp_path: Path) -> None:
    write_shaped_model(tmp_path, "tiny")
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    _, width, *_, vocabulary, _ = SHAPES["tiny"]
    assert model.get_input_embeddings().weight.shape == (vocabulary, width)
    assert model.dtype == torch.float32
    tokenizer, demo = (AutoTokenizer.from_pretrained(path) for path in (tmp_path, DEMO_MODEL))
    assert len(tokenizer) == vocabulary > len(demo)
    assert tokenizer(TEXTS)["input_ids"] == demo(TEXTS)["input_ids"]


def test_the_real_shape_has_571_million_parameters() -> None:
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(shaped_config("pegasus-cnn_dailymail"))
    assert model.num_parameters() == 570_797_056
