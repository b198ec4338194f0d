from __future__ import annotations

from pathlib import Path

from reviewsum_assets.job.tokenization import ChunkTokenizer


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


def test_nothing_to_count_is_nothing(pegasus: Path) -> None:
    assert ChunkTokenizer.load(pegasus, "", 512).counts([]) == []
