from __future__ import annotations

from pathlib import Path

import pytest

from reviewsum_assets.bench.chunking_crew import literal_chunks
from reviewsum_assets.job.chunking import Chunker, ChunkTokenizer
from reviewsum_assets.settings import SummarySettings


@pytest.mark.parametrize("text", ["", "one", "w" * 400 + " and on", "It is good. " * 60])
def test_the_literal_rule_cuts_as_the_chunker_does(pegasus: Path, text: str) -> None:
    settings = SummarySettings(max_chars=600, chunk_tokens=40)
    tokenizer = ChunkTokenizer.load(pegasus, "", settings.encoder_tokens)
    chunks = literal_chunks(tokenizer, settings, text)
    assert chunks == Chunker(tokenizer, settings).chunks(text)
    assert len(chunks) > 1 or len(text) < 400
