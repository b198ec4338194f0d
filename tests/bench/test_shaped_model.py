"""A model of a given shape is a real Pegasus directory: it loads, generates and converts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from reviewsum_assets.bench.shaped_model import SHAPES, write_shaped_model
from reviewsum_assets.demo import DEMO_MODEL

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = SHAPES["tiny"]
TEXTS = [
    "The battery easily lasts a week! Music sounds full and warm.<n>Café naïve, 4/5 stars.",
    "Unknown \N{SNOWMAN} characters \N{SKULL AND CROSSBONES}, \N{CJK UNIFIED IDEOGRAPH-65E5}\t\n.",
    "<filler 4000> <filler\N{LOWER ONE EIGHTH BLOCK}4001> filler 4002>",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shaped") / "model"
    write_shaped_model(directory, TINY)
    return directory


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def model(directory: Path) -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(directory).eval()


def _generated(model: Any, ids: list[int]) -> list[int]:
    output = model.generate(
        input_ids=torch.tensor([ids]), num_beams=3, min_new_tokens=12, max_new_tokens=12
    )
    tokens: list[int] = output[0].tolist()
    return tokens


def _digest(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


def test_the_directory_has_the_files_of_the_hub_and_no_others(directory: Path) -> None:
    assert {path.name for path in directory.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "special_tokens_map.json",
        "spiece.model", "tokenizer_config.json",
    }  # fmt: skip


def test_the_config_says_what_the_shape_says(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_bytes())
    assert config["model_type"] == "pegasus"
    assert (config["encoder_layers"], config["decoder_layers"]) == (2, 1)
    assert (config["d_model"], config["vocab_size"]) == (32, 4200)
    assert config["activation_function"] == "relu"
    assert config["scale_embedding"] is config["static_position_embeddings"] is True
    assert config["dtype"] == "float32"


def test_text_is_cut_as_by_the_demo_model(tokenizer: Any) -> None:
    demo = AutoTokenizer.from_pretrained(DEMO_MODEL)
    assert len(tokenizer) == TINY.vocabulary > len(demo)
    assert tokenizer(TEXTS)["input_ids"] == demo(TEXTS)["input_ids"]


def test_the_model_has_a_row_for_every_token_and_generates(tokenizer: Any, model: Any) -> None:
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.dtype == torch.float32
    assert len(_generated(model, tokenizer(TEXTS[0])["input_ids"])) == 13


def test_ctranslate2_converts_it_and_generates_the_same(
    directory: Path, tokenizer: Any, model: Any, tmp_path: Path
) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    ids = tokenizer(TEXTS[0])["input_ids"]
    converted = ctranslate2.converters.TransformersConverter(str(directory)).convert(
        str(tmp_path / "converted")
    )
    [result] = ctranslate2.Translator(converted, intra_threads=1).translate_batch(
        [tokenizer.convert_ids_to_tokens(ids)],
        beam_size=3,
        min_decoding_length=11,
        max_decoding_length=11,
    )
    # transformers begins with the decoder's start and ends with the end that it is forced to.
    expected = _generated(model, ids)[1:-1]
    assert tokenizer.convert_tokens_to_ids(result.hypotheses[0]) == expected


def test_a_seed_decides_the_weights(directory: Path, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    write_shaped_model(tmp_path / "same", TINY)
    write_shaped_model(tmp_path / "other", TINY, seed=1)
    assert _digest(directory) == _digest(tmp_path / "same") != _digest(tmp_path / "other")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_real_shape_has_571_million_parameters() -> None:
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(SHAPES["pegasus-cnn_dailymail"].config())
    assert model.num_parameters() == 570_797_056


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4,000 is too small: the tokenizer alone has 4,103"):
        write_shaped_model(tmp_path, dataclasses.replace(TINY, vocabulary=4_000))
