"""A model of a given shape is a real Pegasus directory: it loads, generates and converts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from reviewsum_assets.bench.contenders import SHAPES, shaped_config, write_shaped_model
from reviewsum_assets.job.model_source import DEMO_MODEL

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "The battery easily lasts a week! Music sounds full and warm.<n>Café naïve, 4/5 stars.",
    "Unknown \N{SNOWMAN} characters \N{SKULL AND CROSSBONES}, \N{CJK UNIFIED IDEOGRAPH-65E5}\t\n.",
    "<filler 4000> <filler\N{LOWER ONE EIGHTH BLOCK}4001> filler 4002>",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shaped") / "model"
    write_shaped_model(directory, "tiny")
    return directory


def test_the_directory_is_a_float32_model_of_the_shape(directory: Path) -> None:
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(directory)
    layers, width, *_, vocabulary, _ = SHAPES["tiny"]
    assert (model.config.encoder_layers, model.config.decoder_layers) == (layers, layers)
    assert model.get_input_embeddings().weight.shape == (vocabulary, width)
    assert model.dtype == torch.float32


def test_text_is_cut_as_by_the_demo_model(directory: Path) -> None:
    tokenizer, demo = (AutoTokenizer.from_pretrained(path) for path in (directory, DEMO_MODEL))
    assert len(tokenizer) == SHAPES["tiny"][4] > len(demo)
    assert tokenizer(TEXTS)["input_ids"] == demo(TEXTS)["input_ids"]


def test_the_real_shape_has_571_million_parameters() -> None:
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(shaped_config("pegasus-cnn_dailymail"))
    assert model.num_parameters() == 570_797_056
