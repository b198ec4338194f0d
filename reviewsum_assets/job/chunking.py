"""From texts to batches: the model's tokenizer, the chunker, and the size of batches."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from reviewsum_assets.checkpoints.sides import Sides
from reviewsum_assets.settings import SummarySettings

# Pegasus was trained on targets whose sentences end in this mark.
_SENTENCE_MARK = "<n>"
_SAVED = "chunk_tokenizer.json"
# If a directory names only the first one, transformers 5 drops the other and shifts every id by 1.
_PEGASUS_MASKS = {"mask_token": "<mask_2>", "mask_token_sent": "<mask_1>"}
# Some 100 MB; reviews use a few hundred thousand distinct words.
_CACHED_WORDS = 500_000
_ANCHOR = "a"


class ChunkTokenizer:
    """Encodes chunks and decodes summaries.

    Args:
        tokenizer: of the tokenizers library.
        prefix: text before every chunk; T5's task prefix.
        encoder_tokens: length at which the encoder's input is truncated, special tokens included.
    """

    def __init__(self, tokenizer: Tokenizer, prefix: str, encoder_tokens: int) -> None:
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._encoder_tokens = encoder_tokens
        # One thread cuts chunks while another decodes, and the truncation is the tokenizer's state.
        self._lock = threading.Lock()
        self.special_tokens: int = tokenizer.num_special_tokens_to_add(is_pair=False)
        # Literal occurrences of these in a text are cut out before it is tokenized.
        self.added_tokens = frozenset(
            token.content for token in tokenizer.get_added_tokens_decoder().values()
        )
        self.prefix_tokens = self.counts([f"{prefix}a"])[0] - self.counts(["a"])[0]

    @classmethod
    def load(cls, directory: Path, prefix: str, encoder_tokens: int) -> ChunkTokenizer:
        """Load from a model directory, or from one with a file of ``save``.

        The latter needs neither transformers nor torch, which take seconds and half a gigabyte.
        """
        saved = directory / _SAVED
        if saved.exists():
            return cls(Tokenizer.from_file(str(saved)), prefix, encoder_tokens)
        return cls(load_tokenizer(directory).backend_tokenizer, prefix, encoder_tokens)

    def save(self, directory: Path) -> None:
        """Write the one file that ``load`` needs."""
        with self._lock:
            self._tokenizer.no_truncation()
            self._tokenizer.save(str(directory / _SAVED))

    def ids(self) -> dict[str, int]:
        """Return all tokens and their ids."""
        ids: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return ids

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text without prefix and special tokens."""
        with self._lock:
            self._tokenizer.no_truncation()
            encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encoded]

    def encode(self, text: str) -> list[int]:
        """Return the token ids of one chunk for the encoder."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids for the encoder: with prefix and special tokens, truncated."""
        with self._lock:
            self._tokenizer.enable_truncation(self._encoder_tokens)
            encoded = self._tokenizer.encode_batch_fast([self._prefix + text for text in texts])
        return [encoding.ids for encoding in encoded]

    def chunks(self, texts: Sequence[str]) -> list[Chunk]:
        """Return texts with their token ids."""
        ids = self.encode_many(texts)
        return [Chunk(text, tuple(row)) for text, row in zip(texts, ids, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return a summary's text, on one line."""
        with self._lock:
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return " ".join(text.replace(_SENTENCE_MARK, " ").split())


def load_tokenizer(directory: Path) -> Any:
    """Load the tokenizer of transformers; code in the model directory is never run."""
    from transformers import AutoTokenizer

    family = json.loads((directory / "config.json").read_bytes()).get("model_type")
    return AutoTokenizer.from_pretrained(
        directory,
        trust_remote_code=False,
        local_files_only=True,
        **(_PEGASUS_MASKS if family == "pegasus" else {}),
    )


@dataclass(frozen=True)
class Chunk:
    """One piece of a product's text, and its token ids for the encoder."""

    text: str
    token_ids: tuple[int, ...]


class _Word(NamedTuple):
    """Tokens of a word, by its place in a chunk."""

    alone: int
    first: int
    inner: int
    last: int


class Chunker:
    """Cuts texts into chunks; reads strategy, characters and ``chunk_tokens`` of the settings."""

    def __init__(self, tokenizer: ChunkTokenizer, settings: SummarySettings) -> None:
        self._tokenizer = tokenizer
        self._is_two_sided = settings.is_two_sided
        self._window_chars = settings.window_chars
        self._limit = settings.chunk_tokens - tokenizer.special_tokens
        self._encoder_tokens = settings.encoder_tokens
        self._words: dict[str, _Word] = {}
        self._special = re.compile("|".join(map(re.escape, sorted(tokenizer.added_tokens))) or "$^")
        one, two = tokenizer.counts([_ANCHOR, f"{_ANCHOR} {_ANCHOR}"])
        self._anchor_first, self._anchor_last = one, two - one

    def by_side(self, text: str | None) -> dict[str, list[Chunk]]:
        """Cut each side of a window that has text; without sides, there is one with an empty name.

        Sides have the names of the fields of ``Sides``.
        """
        if not self._is_two_sided:
            return {"": self.chunks(text)}
        sides = Sides.of_window(text or "")._asdict()
        return {name: chunks for name, part in sides.items() if (chunks := self.chunks(part))}

    def chunks(self, text: str | None) -> list[Chunk]:
        """Cut the first ``window_chars`` characters of a text; a text without words has no chunk.

        A word that reaches ``chunk_tokens`` alone is a chunk of its own, which the encoder
        truncates; no empty chunk comes before it.
        """
        words = (text or "")[: self._window_chars].split()
        chunks = None
        if self._special.search(" ".join(words)) is None:
            chunks = self._cut_by_sums(words)
        return self._cut_by_tokenizing(words) if chunks is None else chunks

    def _cut_by_sums(self, words: list[str]) -> list[Chunk] | None:
        """Cut by sums of the words' tokens; None if the tokenizer does not confirm the sums."""
        self._measure(words)
        pieces: list[str] = []
        sums: list[int] = []
        start = 0
        before = 0  # tokens of words[start:index] with no last word yet
        total = 0  # tokens of words[start:index] as a chunk
        for index, word in enumerate(words):
            cost = self._words[word]
            longer = cost.alone if index == start else before + cost.last
            if longer >= self._limit and index > start:
                odd = not (_is_plain(word) and _is_plain(words[index - 1]))
                reached = " ".join(words[start : index + 1])
                if odd and self._tokenizer.counts([reached])[0] < self._limit:
                    return None  # the sum is wrong
                pieces.append(" ".join(words[start:index]))
                sums.append(total)
                start = index
                longer = cost.alone
            before = cost.first if index == start else before + cost.inner
            total = longer
        if words:
            pieces.append(" ".join(words[start:]))
            sums.append(total)
        chunks = self._tokenizer.chunks(pieces)
        fixed = self._tokenizer.special_tokens + self._tokenizer.prefix_tokens
        expected = [min(total + fixed, self._encoder_tokens) for total in sums]
        return chunks if expected == [len(chunk.token_ids) for chunk in chunks] else None

    def _cut_by_tokenizing(self, words: list[str]) -> list[Chunk]:
        """Apply the rule literally, for texts whose tokens do not add up word by word."""
        pieces: list[str] = []
        for word in words:
            longer = f"{pieces[-1]} {word}" if pieces else word
            if pieces and self._tokenizer.counts([longer])[0] < self._limit:
                pieces[-1] = longer
            else:
                pieces.append(word)
        return self._tokenizer.chunks(pieces)

    def _measure(self, words: Iterable[str]) -> None:
        """Count the tokens of words that are not cached."""
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
        """Count the tokens of each word within a text."""
        counts = self._tokenizer.counts([around.format(word) for word in words])
        return dict(zip(words, counts, strict=True))


def _is_plain(word: str) -> bool:
    """Return whether the text after a word cannot change how the word is tokenized."""
    return word.isascii() and word.isprintable()


# After a failure while no size is known to work. A quarter: few failures until one works, and
# growth from there costs no more than a batch per step.
_REDUCTION = 4
# Growth ends when the smallest size known to fail is less than this factor away.
_CLOSE_ENOUGH = 1.1
# Full batches at a settled size until a failed size is tried again; doubled when it fails.
_BATCHES_UNTIL_RETRY = 100
# Full batches after a failure that may grow by one row. Not more: as rows become shorter, one row
# more comes close to the failed size again and again.
_ROW_TRIALS = 5


class BatchBudget:
    """The largest batch to try next, learned from batches that worked or ran out of memory.

    A failure reduces the budget once per batch. Batches that work then raise it, by bisection,
    to just below the smallest failed size. Much later that size is tried again, since another
    process may have held the memory and ended.

    Args:
        tokens: the initial budget in padded source tokens; never exceeded.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._most = tokens
        self._works = 0  # the largest size that worked since a size this small failed
        self._fails: int | None = None  # the smallest size that failed
        self._retries = False  # whether a failed size is tried again
        self._full_batches = 0  # since the last failure or retry
        self._until_retry = _BATCHES_UNTIL_RETRY

    def rows(self, longest: int) -> int:
        """Return the rows of a batch whose longest row has so many tokens; at least one."""
        return max(1, self.tokens // longest)

    def ran_out_of_memory(self, rows: int, longest: int) -> None:
        """Reduce the budget after a batch of this size failed."""
        size = rows * longest
        self._fails = size if self._fails is None else min(self._fails, size)
        if self._works >= self._fails:  # less memory is left than before
            self._works = 0
        self.tokens = self._works or max(1, size // _REDUCTION)
        if self._retries:
            self._until_retry *= 2
        self._retries = False
        self._full_batches = 0

    def worked(self, rows: int, longest: int) -> None:
        """Raise the budget after a batch of this size worked, if it was full."""
        size = rows * longest
        self._works = max(self._works, size)
        if self._fails is None or rows < self.rows(longest):
            return
        if size + longest > self._most:  # a larger batch is never needed
            self._fails, self._retries = None, False
            return
        self._full_batches += 1
        if size >= self._fails:  # a failed size works now: the limit is unknown
            self._fails, self._retries = _REDUCTION * self._most, False
        untried = int(self._fails / _CLOSE_ENOUGH)
        wanted = min(math.isqrt(self._works * self._fails), untried)
        if self._full_batches > self._until_retry:
            self._retries, self._full_batches = True, 0
            wanted = max(self._fails, size + longest)
        elif self._full_batches <= _ROW_TRIALS and size + longest <= untried:
            # A batch grows by whole rows, so that the middle may be out of reach.
            wanted = max(wanted, size + longest)
        self.tokens = min(max(self.tokens, wanted), self._most)
