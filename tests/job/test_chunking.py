from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewsum_assets.job.chunking import BatchBudget, Chunker, ChunkTokenizer, load_tokenizer
from reviewsum_assets.settings import SummarySettings
from tests.support.hostile import TEXTS

LIMIT = 24
SETTINGS = SummarySettings(max_chars=400, chunk_tokens=LIMIT, encoder_tokens=64)
WORDS = (
    "the battery life is excellent and screen bright but sound poor easy to set up U.S. it's 4/5"
)
# Beside those of hostile reviews: combining marks, ligatures, special tokens.
ODD_WORDS = [
    *("a\u200b", "\ufeffb", "\u00ad", "\u0301e", "ﬁne", "½", "…", "😀", "電池の持ち", "\x07"),
    *("x" * 80, "<mask_1>", "<unk_7>", "<s>", "▁", "'s", "naïve", *TEXTS),
]
words = st.lists(
    st.one_of(st.sampled_from(WORDS.split()), st.sampled_from(ODD_WORDS), st.text(max_size=8)),
    max_size=80,
)
# White space that splits words although it is no ASCII space.
spaces = st.sampled_from([" ", "  ", "\n", "\u00a0", "\u3000", "\x1f"])
LENGTHS = [300] * 400 + list(range(299, 20, -1)) * 3


def reference(tokenizer: ChunkTokenizer, text: str) -> list[str]:
    """The rule taken literally, at quadratic cost; chunks without a word are dropped."""
    chunks: list[str] = []
    current: list[str] = []
    for word in text[: SETTINGS.max_chars].split():
        current.append(word)
        tokens = tokenizer.counts([" ".join(current)])[0] + tokenizer.special_tokens
        if tokens >= LIMIT:
            chunks.append(" ".join(current[:-1]))
            current = [word]
    chunks.append(" ".join(current))
    return [chunk for chunk in chunks if chunk]


@pytest.fixture(scope="module", params=["pegasus", "t5", "bart"])
def tokenizer(request: pytest.FixtureRequest) -> ChunkTokenizer:
    """The tokenizer of each family."""
    prefix = "summarize: " if request.param == "t5" else ""
    return ChunkTokenizer.load(request.getfixturevalue(request.param), prefix, 64)


@given(words, spaces)
@settings(max_examples=300)
def test_chunks_are_exactly_those_of_the_rule(
    tokenizer: ChunkTokenizer, words: list[str], space: str
) -> None:
    text = space.join(words)
    chunker = Chunker(tokenizer, SETTINGS)
    chunks = chunker.chunks(text)
    assert [chunk.text for chunk in chunks] == reference(tokenizer, text)
    assert chunker.chunks(text) == chunks  # the words are cached now
    assert all(list(chunk.token_ids) == tokenizer.encode(chunk.text) for chunk in chunks)


def test_no_word_is_lost_and_every_chunk_stays_below_the_limit(tokenizer: ChunkTokenizer) -> None:
    chunks = Chunker(tokenizer, SETTINGS).chunks(WORDS * 10)
    text = (WORDS * 10)[: SETTINGS.max_chars]
    assert " ".join(chunk.text for chunk in chunks).split() == text.split()
    assert all(len(chunk.token_ids) - tokenizer.prefix_tokens < LIMIT for chunk in chunks)


@pytest.mark.parametrize("text", [None, "", " \n\t "])
def test_no_words_are_no_chunks(tokenizer: ChunkTokenizer, text: str | None) -> None:
    assert Chunker(tokenizer, SETTINGS).chunks(text) == []
    assert tokenizer.counts([]) == []


def test_an_overlong_word_is_a_chunk_of_its_own_which_the_encoder_truncates(pegasus: Path) -> None:
    chunker = Chunker(ChunkTokenizer.load(pegasus, "", 64), SETTINGS)
    chunks = chunker.chunks("good " + "xyxzq" * 60 + " sound")
    assert [chunk.text[:5] for chunk in chunks] == ["good", "xyxzq", "sound"]
    assert len(chunks[1].token_ids) == SETTINGS.encoder_tokens


def test_only_the_first_characters_are_read(pegasus: Path) -> None:
    chunker = Chunker(ChunkTokenizer.load(pegasus, "", 64), SETTINGS)
    assert chunker.chunks("good " * 80 + "x" * 10_000_000) == chunker.chunks("good " * 80)


def test_the_prefix_comes_first_and_the_end_token_last_even_when_truncated(t5: Path) -> None:
    plain, prefixed = (ChunkTokenizer.load(t5, prefix, 16) for prefix in ("", "summarize: "))
    ids = prefixed.encode("battery life")
    assert ids == plain.encode("summarize: battery life")
    assert ids[-1] == 1
    long = plain.encode("battery " * 100)
    assert (len(long), long[-1]) == (16, 1)


def test_sentence_marks_become_spaces(pegasus: Path) -> None:
    tokenizer = ChunkTokenizer.load(pegasus, "", 512)
    ids = tokenizer.encode("good sound<n>bad battery")
    assert tokenizer.decode(ids) == "good sound bad battery"


@pytest.mark.parametrize("family", ["pegasus", "bart", "t5"])
def test_encoding_is_that_of_transformers(family: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(family)
    texts = ["The sound is good.", "", "battery " * 40, "odd \u200b <n> </s> \U0001f600 ﬁne"]
    ours, theirs = ChunkTokenizer.load(directory, "", 16), load_tokenizer(directory)
    assert ours.encode_many(texts) == theirs(texts, truncation=True, max_length=16)["input_ids"]
    counted = theirs(texts, add_special_tokens=False)["input_ids"]
    assert ours.counts(texts) == [len(ids) for ids in counted]


def test_a_pegasus_that_names_its_mask_token_keeps_every_id(pegasus: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(pegasus, tmp_path / "named"))
    config = directory / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "mask_token": "<mask_2>"}))
    text = "The sound is good, the battery poor."
    ids = ChunkTokenizer.load(directory, "", 512).encode(text)
    assert ids == ChunkTokenizer.load(pegasus, "", 512).encode(text)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(pegasus / "spiece.model"))
    # Pegasus puts 103 ids of its own before the vocabulary's pieces.
    assert ids[:-1] == [piece + 103 for piece in pieces.encode(text)]


def sizes(
    budget: BatchBudget, capacity: int, lengths: Sequence[int] = LENGTHS
) -> tuple[list[int], list[int]]:
    """Sizes of the batches that worked and that failed on a device of this capacity."""
    worked, failed = [], []
    left = list(lengths)
    while left:
        longest = left[0]
        rows = min(budget.rows(longest), len(left))
        if rows * longest > capacity and rows > 1:
            budget.ran_out_of_memory(rows, longest)
            failed.append(rows * longest)
        else:
            budget.worked(rows, longest)
            worked.append(rows * longest)
            left = left[rows:]
    return worked, failed


def test_a_budget_that_fits_is_never_changed_and_one_row_is_always_allowed() -> None:
    budget = BatchBudget(36_000)
    worked, failed = sizes(budget, 36_000)
    assert (max(worked), failed, budget.tokens) == (36_000, [], 36_000)
    assert BatchBudget(10).rows(300) == 1


@given(st.integers(600, 40_000))
def test_failures_are_few_and_batches_come_near_to_any_capacity(capacity: int) -> None:
    worked, failed = sizes(BatchBudget(36_000), capacity)
    assert len(failed) < 10
    assert max(worked) > 0.6 * min(capacity, 36_000)


def test_a_budget_grows_to_the_capacity_and_uses_memory_that_comes_back() -> None:
    budget = BatchBudget(36_000)
    worked, failed = sizes(budget, 1_000)
    assert len(failed) < 10
    assert min(worked[10:-1]) >= 700
    assert budget.tokens <= 1_000
    worked, _ = sizes(budget, 36_000, LENGTHS * 3)
    assert max(worked) > 20_000


def test_memory_that_shrinks_reduces_the_budget_below_a_size_that_worked() -> None:
    budget = BatchBudget(36_000)
    sizes(budget, 20_000)
    _, failed = sizes(budget, 2_000)
    assert budget.tokens <= 2_000
    assert len(failed) < 10


@pytest.mark.parametrize("most", [36_000, 36_100])
def test_a_size_that_fails_at_the_most_is_tried_less_and_less_often(most: int) -> None:
    _, failed = sizes(BatchBudget(most), 35_000, [300] * 400_000)
    assert len(failed) < 12
