"""Canary texts: fixed, so that whatever changes in their summaries is not due to the reviews.

Every worker summarizes them before anything else, see ``checkpoints.canary_reference``. Both
engines must say the same of them, word for word, before the faster one is trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from reviewsum_assets.job.chunking import ChunkTokenizer

CANARY_TEXTS = (
    "Works well. I have used it every day for two months, and it still looks like new.",
    "Stopped working after a week! The seller never answered, so I sent it back. Do not buy this.",
    "The sound is clear and the battery lasts about 10 hours, but the case feels cheap and the "
    "manual is no help. For $25 I am happy with it; my brother bought the larger one and says it "
    "charges faster. Two of us had to update the firmware first.",
    "My daughter (8) loves the color. Easy to set up, easy to clean, a bit heavy for small hands.",
)
_HASH_CHARS = 8


def named_canaries(summaries: Sequence[Sequence[int]], tokenizer: ChunkTokenizer) -> dict[str, str]:
    """The texts of an engine's canary summaries, each by a hash of the canary text."""
    decoded = map(tokenizer.decode, summaries)
    return dict(zip(map(text_key, CANARY_TEXTS), decoded, strict=True))


def text_key(text: str) -> str:
    """What a canary text is called in records."""
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]
