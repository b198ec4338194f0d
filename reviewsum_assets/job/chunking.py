"""The model's tokenizer as the job uses it: chunks in, summaries out."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from reviewsum_assets.settings import SummarySettings

# Pegasus was trained on targets whose sentences end in this mark.
_SENTENCE_MARK = "<n>"
_SAVED = "chunk_tokenizer.json"
# Named here: where a directory names the first alone, transformers 5 forgets the other and gives
# every piece an id one too low.
_PEGASUS_MASKS = {"mask_token": "<mask_2>", "mask_token_sent": "<mask_1>"}


class ChunkTokenizer:
    """Encodes chunks and decodes summaries.

    Args:
        tokenizer: of the tokenizers library.
        prefix: text before every chunk; T5's task prefix.
        encoder_tokens: where the encoder's input is truncated, special tokens included.
    """

    def __init__(self, tokenizer: Tokenizer, prefix: str, encoder_tokens: int) -> None:
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._encoder_tokens = encoder_tokens
        # One thread cuts chunks while another decodes; a tokenizer that changes how it truncates
        # must be alone.
        self._lock = threading.Lock()
        self.special_tokens: int = tokenizer.num_special_tokens_to_add(is_pair=False)
        # Literal occurrences of these in a text are cut out before it is tokenized.
        self.added_tokens = frozenset(
            token.content for token in tokenizer.get_added_tokens_decoder().values()
        )
        self.prefix_tokens = self.counts([f"{prefix}a"])[0] - self.counts(["a"])[0]

    @classmethod
    def load(cls, directory: Path, prefix: str, encoder_tokens: int) -> ChunkTokenizer:
        """Load from a model directory, or from one that ``save`` has written to.

        The latter needs neither transformers nor torch, which take seconds and half a gigabyte.
        """
        saved = directory / _SAVED
        if saved.exists():
            return cls(Tokenizer.from_file(str(saved)), prefix, encoder_tokens)
        return cls(load_tokenizer(directory).backend_tokenizer, prefix, encoder_tokens)

    def save(self, directory: Path) -> None:
        """Write what ``load`` needs in one file."""
        with self._lock:
            self._tokenizer.no_truncation()
            self._tokenizer.save(str(directory / _SAVED))

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text alone: no prefix, no special tokens."""
        with self._lock:
            self._tokenizer.no_truncation()
            encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encoded]

    def encode(self, text: str) -> list[int]:
        """Token ids of one chunk as the encoder gets them."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of chunks as the encoder gets them: prefix, special tokens, truncation."""
        with self._lock:
            self._tokenizer.enable_truncation(self._encoder_tokens)
            encoded = self._tokenizer.encode_batch_fast([self._prefix + text for text in texts])
        return [encoding.ids for encoding in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """A summary's text, on one line."""
        with self._lock:
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return " ".join(text.replace(_SENTENCE_MARK, " ").split())


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of transformers for a model directory; runs no code that it brings."""
    from transformers import AutoTokenizer

    family = json.loads((directory / "config.json").read_bytes()).get("model_type")
    return AutoTokenizer.from_pretrained(
        directory,
        trust_remote_code=False,
        local_files_only=True,
        **(_PEGASUS_MASKS if family == "pegasus" else {}),
    )


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


# After a failure while no size is known to work. A quarter: few failures until one works, and
# growth from there costs no more than a batch per step.
_REDUCTION = 4
# Growth ends when the smallest size known to fail is less than this factor away.
_CLOSE_ENOUGH = 1.1
# Full batches at a settled size until a size that failed is tried again; doubled when it fails.
_BATCHES_UNTIL_RETRY = 100
# Full batches after a failure that may grow by one row. Not more: as rows become shorter, one row
# more comes close to the size that failed again and again.
_ROW_TRIALS = 5


class BatchBudget:
    """The largest batch to try next, learned from what worked and what ran out of memory.

    A failure reduces the budget once per batch. Batches that work then raise it, by bisection,
    to just below the smallest size that failed. Much later that size is tried again, since the
    memory may have been held by another process that has ended.

    Args:
        tokens: the budget to begin with, in padded source tokens; never exceeded.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._most = tokens
        self._works = 0  # the largest size that worked since a size this small failed
        self._fails: int | None = None  # the smallest size that failed
        self._retries = False  # whether a size that failed is tried again
        self._full_batches = 0  # since the last failure or retry
        self._patience = _BATCHES_UNTIL_RETRY

    def rows(self, longest: int) -> int:
        """Rows of a batch whose longest row has so many tokens; one row is always allowed."""
        return max(1, self.tokens // longest)

    def ran_out_of_memory(self, rows: int, longest: int) -> None:
        """Reduce the budget after a batch of this size failed."""
        size = rows * longest
        self._fails = size if self._fails is None else min(self._fails, size)
        if self._works >= self._fails:  # less memory is left than before
            self._works = 0
        self.tokens = self._works or max(1, size // _REDUCTION)
        if self._retries:
            self._patience *= 2
        self._retries = False
        self._full_batches = 0

    def worked(self, rows: int, longest: int) -> None:
        """Raise the budget after a batch of this size worked, if it was full."""
        size = rows * longest
        self._works = max(self._works, size)
        if self._fails is None or rows < self.rows(longest):
            return
        if size + longest > self._most:  # nothing larger is ever asked for
            self._fails, self._retries = None, False
            return
        self._full_batches += 1
        if size >= self._fails:  # what failed before works now: where it fails is unknown
            self._fails, self._retries = _REDUCTION * self._most, False
        untried = int(self._fails / _CLOSE_ENOUGH)
        wanted = min(math.isqrt(self._works * self._fails), untried)
        if self._full_batches > self._patience:
            self._retries, self._full_batches = True, 0
            wanted = max(self._fails, size + longest)
        elif self._full_batches <= _ROW_TRIALS and size + longest <= untried:
            # A batch grows by whole rows, so that the middle may be out of reach.
            wanted = max(wanted, size + longest)
        self.tokens = min(max(self.tokens, wanted), self._most)
