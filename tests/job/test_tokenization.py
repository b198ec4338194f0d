from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import sentencepiece

from reviewsum_assets.job.chunking import ChunkTokenizer, load_tokenizer


def test_the_prefix_comes_first_and_the_end_token_last(t5: Path) -> None:
    plain = ChunkTokenizer.load(t5, "", 512)
    prefixed = ChunkTokenizer.load(t5, "summarize: ", 512)
    ids = prefixed.encode("battery life")
    assert ids == plain.encode("summarize: battery life")
    assert ids[-1] == 1


def test_input_is_truncated_with_its_end_token_kept(pegasus: Path) -> None:
    ids = ChunkTokenizer.load(pegasus, "", 16).encode("battery " * 100)
    assert (len(ids), ids[-1]) == (16, 1)


def test_sentence_marks_become_spaces(pegasus: Path) -> None:
    tokenizer = ChunkTokenizer.load(pegasus, "", 512)
    ids = tokenizer.encode("good sound<n>bad battery")
    assert tokenizer.decode(ids) == "good sound bad battery"


@pytest.mark.parametrize("family", ["pegasus", "bart", "t5"])
def test_encoding_is_that_of_transformers(family: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(family)
    texts = ["The sound is good.", "", "battery " * 40, "odd \u200b <n> </s> \U0001f600 ﬁne"]
    ours, theirs = ChunkTokenizer.load(directory, "", 16), load_tokenizer(directory)
    encoded = theirs(texts, truncation=True, max_length=16)["input_ids"]
    assert ours.encode_many(texts) == encoded
    counted = theirs(texts, add_special_tokens=False)["input_ids"]
    assert ours.counts(texts) == [len(ids) for ids in counted]


def test_nothing_to_count_is_nothing(pegasus: Path) -> None:
    assert ChunkTokenizer.load(pegasus, "", 512).counts([]) == []


def test_a_pegasus_that_names_its_mask_token_keeps_every_id(pegasus: Path, tmp_path: Path) -> None:
    directory = tmp_path / "named"
    shutil.copytree(pegasus, directory)
    config = directory / "tokenizer_config.json"
    named = {**json.loads(config.read_text()), "mask_token": "<mask_2>"}
    config.write_text(json.dumps(named))
    text = "The sound is good, the battery poor."
    assert ChunkTokenizer.load(directory, "", 512).encode(text) == (
        ChunkTokenizer.load(pegasus, "", 512).encode(text)
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(pegasus / "spiece.model"))
    # Pegasus puts 103 ids of its own before the vocabulary's pieces.
    assert ChunkTokenizer.load(directory, "", 512).encode(text)[:-1] == [
        piece + 103 for piece in pieces.encode(text)
    ]
