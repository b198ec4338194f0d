"""Cuts a product's text into the chunks the model sees, in linear time.

The rule is the one users rely on: words are added to a chunk until the next one would make it
reach ``chunk_tokens``, end token included; that word starts the next chunk. Applied literally, by
tokenizing the growing chunk after every word, it costs quadratic time. But tokenizers split at
spaces first, so a chunk's tokens are the sum of its words' tokens, where a word may count
differently at the start of a chunk (byte-level BPE has no space before it) and at its end (a word
that normalizes to a trailing space). So each distinct word is measured once in each position.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reviewsum_assets.job.tokenization import ChunkTokenizer
from reviewsum_assets.settings import SummarySettings

# Some 100 MB; reviews use a few hundred thousand distinct words.
_CACHED_WORDS = 500_000
_ANCHOR = "a"


@dataclass(frozen=True)
class Chunk:
    """One piece of a product's text, and its tokens as the encoder gets them."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class _Word:
    """How many tokens a word counts, by its place in a chunk."""

    alone: int
    first: int
    inner: int
    last: int


class Chunker:
    """Cuts texts into chunks.

    Args:
        tokenizer: of the model.
        settings: ``window_chars`` and ``chunk_tokens`` are taken from it.
    """

    def __init__(self, tokenizer: ChunkTokenizer, settings: SummarySettings) -> None:
        self._tokenizer = tokenizer
        self._window_chars = settings.window_chars
        self._limit = settings.chunk_tokens - tokenizer.special_tokens
        self._encoder_tokens = settings.encoder_tokens
        self._words: dict[str, _Word] = {}
        self._special = re.compile("|".join(map(re.escape, sorted(tokenizer.added_tokens))) or "$^")
        one, two = tokenizer.counts([_ANCHOR, f"{_ANCHOR} {_ANCHOR}"])
        self._anchor_first, self._anchor_last = one, two - one

    def chunks(self, text: str | None) -> list[Chunk]:
        """The chunks of a text's first ``window_chars`` characters; none if it has no words.

        A word that reaches ``chunk_tokens`` by itself is a chunk by itself, which the encoder
        truncates; no empty chunk comes before it.
        """
        words = (text or "")[: self._window_chars].split()
        if self._special.search(" ".join(words)) is None:
            chunks = self._cut_by_sums(words)
            if chunks is not None:
                return chunks
        return self._encoded(self._cut_by_tokenizing(words))

    def _cut_by_sums(self, words: list[str]) -> list[Chunk] | None:
        """Cut by adding up words; None if the tokenizer does not agree with the sums."""
        self._measure(words)
        known = self._words
        pieces: list[list[str]] = []
        sums: list[int] = []
        start = 0
        before = 0  # tokens of words[start:index] with no last word yet
        total = 0  # tokens of words[start:index] as a chunk
        for index, word in enumerate(words):
            cost = known[word]
            longer = cost.alone if index == start else before + cost.last
            if longer >= self._limit and index > start:
                if not self._reaches_limit(words[start : index + 1]):
                    return None
                pieces.append(words[start:index])
                sums.append(total)
                start = index
                longer = cost.alone
            before = cost.first if index == start else before + cost.inner
            total = longer
        if start < len(words):
            pieces.append(words[start:])
            sums.append(total)
        chunks = self._encoded(pieces)
        fixed = self._tokenizer.special_tokens + self._tokenizer.prefix_tokens
        expected = [min(total + fixed, self._encoder_tokens) for total in sums]
        return chunks if expected == [len(chunk.token_ids) for chunk in chunks] else None

    def _reaches_limit(self, words: Sequence[str]) -> bool:
        """Whether these words really reach the limit: asked only where sums could err."""
        if _is_plain(words[-1]) and _is_plain(words[-2]):
            return True
        return self._tokenizer.counts([" ".join(words)])[0] >= self._limit

    def _cut_by_tokenizing(self, words: list[str]) -> list[list[str]]:
        """The rule taken literally, for texts whose tokens do not add up word by word."""
        pieces: list[list[str]] = []
        current: list[str] = []
        for word in words:
            longer = [*current, word]
            if current and self._tokenizer.counts([" ".join(longer)])[0] >= self._limit:
                pieces.append(current)
                longer = [word]
            current = longer
        return [*pieces, current] if current else pieces

    def _encoded(self, pieces: Iterable[Sequence[str]]) -> list[Chunk]:
        texts = [" ".join(piece) for piece in pieces]
        ids = self._tokenizer.encode_many(texts)
        return [Chunk(text, tuple(row)) for text, row in zip(texts, ids, strict=True)]

    def _measure(self, words: Iterable[str]) -> None:
        """Measure the words that have not been seen yet."""
        if len(self._words) > _CACHED_WORDS:
            self._words.clear()
        new = [word for word in dict.fromkeys(words) if word not in self._words]
        odd = [word for word in new if not _is_plain(word)]
        alone = self._counts(new, "{}")
        at_end = self._counts(new, f"{_ANCHOR} {{}}")
        at_start = self._counts(odd, f"{{}} {_ANCHOR}")
        between = self._counts(odd, f"{_ANCHOR} {{}} {_ANCHOR}")
        for word in new:
            last = at_end[word] - self._anchor_first
            first, inner = alone[word], last
            if word in between:
                first = at_start[word] - self._anchor_last
                inner = between[word] - self._anchor_first - self._anchor_last
            self._words[word] = _Word(alone[word], first, inner, last)

    def _counts(self, words: Sequence[str], around: str) -> dict[str, int]:
        """Tokens of each word within a text."""
        counts = self._tokenizer.counts([around.format(word) for word in words])
        return dict(zip(words, counts, strict=True))


def _is_plain(word: str) -> bool:
    """Whether what follows a word cannot change how it is tokenized."""
    return word.isascii() and word.isprintable()
