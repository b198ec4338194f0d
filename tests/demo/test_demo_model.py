"""The model of the demonstration is a real Pegasus directory, and its summaries are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import reviewsum_assets.demo
from reviewsum_assets.demo.claims import claims_of

MODEL = Path(reviewsum_assets.demo.__file__).parent / "model"

HEADPHONES = (
    "I bought this headset for my daughter. The battery easily lasts a week! Music sounds full "
    "and warm and the bass is deep. My brother told me to get this pair of headphones. The sound "
    "is amazing, but the app crashes every time I open it. I only have to charge it every ten "
    "days. The app is terrible. Highly recommended. I hear details in songs that I never noticed "
    "before. Best headset that I have ever had!"
)
ROUTER = (
    "day for streaming. This router drops the connection every hour. I have to reconnect it again "
    "and again; besides, customer service never answered my emails. Do not buy this router. The "
    "signal does not even reach the bedroom. Support kept me on hold for two hours and then hung "
    "up! The price is fair and I got it for less than a dinner for two. My old Wi-Fi router was "
    "better. The connection is simply awful. I want my money"
)
FRAGMENT = "webcam for my sister. I mostly use it for"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def summaries(model: Any, tokenizer: Any) -> list[str]:
    inputs = tokenizer([HEADPHONES, ROUTER, FRAGMENT], padding=True, return_tensors="pt")
    output = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        num_beams=3,
        max_length=128,
        min_length=32,
        length_penalty=0.8,
        early_stopping=True,
        renormalize_logits=True,
    )
    decoded: list[str] = tokenizer.batch_decode(output, skip_special_tokens=True)
    return decoded


def _json(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((MODEL / name).read_text(encoding="utf-8"))
    return content


def test_the_directory_has_the_files_of_the_hub_and_no_others() -> None:
    assert {path.name for path in MODEL.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "special_tokens_map.json",
        "spiece.model", "tokenizer_config.json",
    }  # fmt: skip


def test_the_directory_is_small_enough_to_be_kept_with_the_code() -> None:
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 10_000_000


def test_ids_are_laid_out_as_in_every_pegasus(tokenizer: Any) -> None:
    pieces = ["<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_2>", "<unk_102>", "<unk>"]
    assert tokenizer.convert_tokens_to_ids(pieces) == [0, 1, 2, 3, 4, 104, 105]


def test_the_sentence_mark_is_one_piece_of_the_vocabulary(tokenizer: Any) -> None:
    mark = tokenizer.convert_tokens_to_ids("<n>")
    assert mark > 105
    assert mark in tokenizer("It works.<n>I like it.")["input_ids"]


def test_the_model_has_a_row_for_every_token_and_no_more(tokenizer: Any, model: Any) -> None:
    assert model.config.vocab_size == len(tokenizer) == model.get_input_embeddings().num_embeddings


def test_weights_are_stored_in_half_precision() -> None:
    assert _json("config.json")["dtype"] == "float16"


def test_generation_defaults_are_those_of_the_published_checkpoint() -> None:
    defaults = _json("generation_config.json")
    assert defaults["decoder_start_token_id"] == 0
    assert defaults["forced_eos_token_id"] == 1
    assert (defaults["min_length"], defaults["max_length"]) == (32, 128)
    assert defaults["length_penalty"] == 0.8


def test_summaries_name_the_kind_of_product(summaries: list[str]) -> None:
    headphones, router, _ = summaries
    assert "this pair of headphones" in headphones
    assert "this router" in router


def test_summaries_praise_what_the_reviews_praise(summaries: list[str]) -> None:
    headphones, router, _ = summaries
    assert "the long battery life" in headphones
    assert "the rich sound" in headphones
    assert "the fair price" in router


def test_summaries_criticize_what_the_reviews_criticize(summaries: list[str]) -> None:
    headphones, router, _ = summaries
    assert "the buggy app" in headphones
    assert "the unreliable connection" in router
    assert "the unhelpful support" in router


def test_summaries_reach_the_verdict_of_the_reviews(summaries: list[str]) -> None:
    headphones, router, _ = summaries
    assert "good points outweigh" in headphones or "praise clearly outweighs" in headphones
    assert "bad points outweigh" in router or "criticism clearly outweighs" in router


def test_a_fragment_without_opinions_is_not_given_any(summaries: list[str]) -> None:
    claims = claims_of(summaries[2])
    assert claims.praised == claims.criticized == frozenset()


def test_summaries_end_by_themselves(summaries: list[str], tokenizer: Any) -> None:
    lengths = [len(tokenizer(summary)["input_ids"]) for summary in summaries]
    assert all(32 <= length <= 100 for length in lengths)
    assert all(summary.endswith(".") for summary in summaries)
