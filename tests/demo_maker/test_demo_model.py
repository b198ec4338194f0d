"""The demo model is a real Pegasus directory, and its summaries are true of their reviews."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from reviewsum_assets.demo import DEMO_MODEL
from tests.demo_maker.train_model import summarize
from tests.demo_maker.training_examples import claims_of, training_example

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
    return AutoTokenizer.from_pretrained(DEMO_MODEL)


@pytest.fixture(scope="module")
def summaries(tokenizer: Any) -> list[str]:
    model = AutoModelForSeq2SeqLM.from_pretrained(DEMO_MODEL, dtype=torch.float32).eval()
    return summarize(model, tokenizer, [HEADPHONES, ROUTER, FRAGMENT])


def test_the_files_are_those_that_partitions_and_summaries_were_recorded_with() -> None:
    # The first digits of each SHA-256.
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in DEMO_MODEL.iterdir()}
    assert found == {
        "config.json": "3a45246078a603d7",
        "generation_config.json": "d82befce1a5f373d",
        "model.safetensors": "b96647a9c547eb59",
        "special_tokens_map.json": "8945f3bd197887ab",
        "spiece.model": "16e61926ccf79ff0",
        "tokenizer_config.json": "a04c64503d83cb66",
    }


def test_ids_are_laid_out_as_in_every_pegasus(tokenizer: Any) -> None:
    pieces = ["<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_2>", "<unk_102>", "<unk>", "<n>"]
    assert tokenizer.convert_tokens_to_ids(pieces) == [0, 1, 2, 3, 4, 104, 105, 106]


def test_summaries_name_the_kind_of_product(summaries: list[str]) -> None:
    kinds = [claims_of(summary).kind for summary in summaries]
    assert kinds[:2] == ["pair of headphones", "router"]


def test_summaries_praise_and_criticize_as_the_reviews_do(summaries: list[str]) -> None:
    headphones, router, _ = map(claims_of, summaries)
    assert headphones.praised >= {"battery", "sound"}
    assert headphones.criticized >= {"app"}
    assert router.praised >= {"price"}
    assert router.criticized >= {"connection", "support"}


def test_summaries_reach_the_verdict_of_the_reviews(summaries: list[str]) -> None:
    headphones, router, _ = summaries
    assert "good points outweigh" in headphones or "praise clearly outweighs" in headphones
    assert "bad points outweigh" in router or "criticism clearly outweighs" in router


def test_a_fragment_without_opinions_is_not_given_any(summaries: list[str]) -> None:
    claims = claims_of(summaries[2])
    assert claims.praised == claims.criticized == frozenset()


def test_summaries_end_before_they_are_cut_off(summaries: list[str], tokenizer: Any) -> None:
    assert all(32 <= len(tokenizer(summary)["input_ids"]) <= 100 for summary in summaries)
    assert all(summary.endswith(".") for summary in summaries)


def test_every_reference_summary_claims_only_facts_of_its_chunk() -> None:
    rng = Random(3)
    for _ in range(300):
        example = training_example(rng, tokens=rng.randrange(6, 300), count=len)
        claims = claims_of(example.summary)
        assert claims.praised <= {*example.facts.praised}
        assert claims.criticized <= {*example.facts.criticized}
        assert claims.kind == (example.facts.kind.name if example.facts.kind else None)


def test_training_examples_are_the_same_everywhere() -> None:
    rng, digest = Random(9), hashlib.sha256()
    for _ in range(300):
        example = training_example(rng, tokens=200, count=len)
        digest.update(f"{example.text}\n{example.summary}\n".encode())
    assert digest.hexdigest()[:16] == "1d2ef0dbb2992873"
