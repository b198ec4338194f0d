"""The chunks that engines are compared on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.settings import SummarySettings

# Some half a chunk: cut from there, a text gives other chunks.
_SHIFT_WORDS = 100
_MOST_SHIFTS = 20


def different_chunks(
    directory: Path, prefix: str, settings: SummarySettings, texts: Sequence[str]
) -> Iterator[str]:
    """Chunks of whole texts, far beyond ``max_chars``, no two alike.

    Where texts are few, they are cut again from later and later words, so that chunks begin and
    end elsewhere.
    """
    tokenizer = ChunkTokenizer.load(directory, prefix, settings.encoder_tokens)
    whole = max((len(text) for text in texts), default=1)
    chunker = Chunker(tokenizer, settings.model_copy(update={"max_chars": max(1, whole)}))
    seen: set[str] = set()
    for shift in range(_MOST_SHIFTS):
        for text in texts:
            words = text.split()[shift * _SHIFT_WORDS :]
            for chunk in chunker.chunks(" ".join(words)):
                if chunk.text not in seen:
                    seen.add(chunk.text)
                    yield chunk.text
