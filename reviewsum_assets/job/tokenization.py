"""The model's tokenizer as the job uses it: chunks in, summaries out."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

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
