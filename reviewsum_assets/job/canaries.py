"""Canary texts: fixed, so that whatever changes in their summaries is not due to the reviews.

Every worker summarizes them before anything else, see ``checkpoints.canary_reference``. Both
engines must say the same of them, word for word, before the faster one is trusted.
"""

from __future__ import annotations

import hashlib
import logging

from reviewsum_assets.job.engines.base import Engine
from reviewsum_assets.job.tokenization import ChunkTokenizer

CANARY_TEXTS = (
    "Works well. I have used it every day for two months, and it still looks like new.",
    "Stopped working after a week! The seller never answered, so I sent it back. Do not buy this.",
    "The sound is clear and the battery lasts about 10 hours, but the case feels cheap and the "
    "manual is no help. For $25 I am happy with it; my brother bought the larger one and says it "
    "charges faster. Two of us had to update the firmware first.",
    "My daughter (8) loves the color. Easy to set up, easy to clean, a bit heavy for small hands.",
)
_HASH_CHARS = 8

_log = logging.getLogger("reviewsum.job")


def canary_summaries(engine: Engine, tokenizer: ChunkTokenizer) -> dict[str, str]:
    """The summary of each canary text, by a hash of the text; none if the engine fails on them.

    They are a batch of their own: in low precision, what shares a batch can change a summary.
    """
    try:
        summaries = engine.generate(tokenizer.encode_many(CANARY_TEXTS))
    except Exception as error:
        # Products are the test that counts: they say by themselves whether the engine works.
        _log.warning("the canary texts cannot be summarized: %s: %s", type(error).__name__, error)
        return {}
    decoded = map(tokenizer.decode, summaries)
    return dict(zip(map(text_key, CANARY_TEXTS), decoded, strict=True))


def text_key(text: str) -> str:
    """What a canary text is called in records."""
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]
