from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.settings import SummarySettings

LIMIT = 24
SETTINGS = SummarySettings(max_chars=400, chunk_tokens=LIMIT, encoder_tokens=64)

WORDS = (
    "the battery life is excellent and screen bright but sound poor easy to set up U.S. it's 4/5"
)
ODD_WORDS = [
    "\u200b",
    "a\u200b",
    "\ufeffb",
    "\u00ad",
    "e\u0301",
    "\u0301e",
    "ﬁne",
    "½",
    "…",
    "😀",
    "👨\u200d👩\u200d👧",
    "電池の持ち",
    "\x07",
    "\x7f",
    "x" * 80,
    "</s>",
    "<n>",
    "<mask_1>",
    "<unk_7>",
    "<s>",
    "<pad>",
    "▁",
    "'s",
    "naïve",
]
words = st.lists(
    st.one_of(st.sampled_from(WORDS.split()), st.sampled_from(ODD_WORDS), st.text(max_size=8)),
    max_size=80,
)
# White space that splits words although it is no ASCII space.
spaces = st.sampled_from([" ", "  ", "\n", "\u00a0", "\u3000", "\x1f"])


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


def loaded(directory: Path, prefix: str = "") -> ChunkTokenizer:
    return ChunkTokenizer.load(directory, prefix, SETTINGS.encoder_tokens)


@pytest.fixture(scope="module", params=["pegasus", "t5", "bart"])
def tokenizer(request: pytest.FixtureRequest) -> ChunkTokenizer:
    """The tokenizer of each family."""
    prefix = "summarize: " if request.param == "t5" else ""
    return loaded(request.getfixturevalue(request.param), prefix)


@given(words, spaces)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_chunks_are_exactly_those_of_the_rule(
    tokenizer: ChunkTokenizer, words: list[str], space: str
) -> None:
    text = space.join(words)
    chunks = Chunker(tokenizer, SETTINGS).chunks(text)
    assert [chunk.text for chunk in chunks] == reference(tokenizer, text)


def test_a_warm_cache_cuts_as_a_cold_one(tokenizer: ChunkTokenizer) -> None:
    text = " ".join([*WORDS.split() * 3, *ODD_WORDS])[: SETTINGS.max_chars]
    chunker = Chunker(tokenizer, SETTINGS)
    first = chunker.chunks(text)
    assert chunker.chunks(text) == first


def test_ids_are_those_of_the_chunk_encoded_with_its_prefix(tokenizer: ChunkTokenizer) -> None:
    for chunk in Chunker(tokenizer, SETTINGS).chunks(WORDS * 3):
        assert list(chunk.token_ids) == tokenizer.encode(chunk.text)


def test_no_word_is_lost_or_moved(tokenizer: ChunkTokenizer) -> None:
    text = (WORDS * 10)[: SETTINGS.max_chars]
    chunks = Chunker(tokenizer, SETTINGS).chunks(WORDS * 10)
    assert " ".join(chunk.text for chunk in chunks).split() == text.split()


@pytest.mark.parametrize("text", [None, "", " \n\t "])
def test_no_words_are_no_chunks(tokenizer: ChunkTokenizer, text: str | None) -> None:
    assert Chunker(tokenizer, SETTINGS).chunks(text) == []


def test_an_overlong_word_is_a_chunk_of_its_own_which_the_encoder_truncates(pegasus: Path) -> None:
    tokenizer = loaded(pegasus)
    chunks = Chunker(tokenizer, SETTINGS).chunks("good " + "xyxzq" * 60 + " sound")
    assert [chunk.text[:5] for chunk in chunks] == ["good", "xyxzq", "sound"]
    assert len(chunks[1].token_ids) == SETTINGS.encoder_tokens


def test_only_the_first_characters_are_read(pegasus: Path) -> None:
    chunker = Chunker(loaded(pegasus), SETTINGS)
    assert chunker.chunks("good " * 80 + "x" * 10_000_000) == chunker.chunks("good " * 80)


def test_every_chunk_stays_below_the_limit(tokenizer: ChunkTokenizer) -> None:
    for chunk in Chunker(tokenizer, SETTINGS).chunks(WORDS * 10):
        assert len(chunk.token_ids) - tokenizer.prefix_tokens < LIMIT
