from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.job.chunking import Chunk, ChunkTokenizer
from reviewsum_assets.job.hierarchy import SummaryJoiner, chunks_above, first_level, joined
from reviewsum_assets.settings import SummarySettings

TOKENS = st.lists(st.integers(0, 700), min_size=2, max_size=80)


@given(TOKENS, st.integers(8, 600))
def test_every_level_has_at_most_half_of_the_one_below(tokens: list[int], limit: int) -> None:
    groups = joined(tokens, limit)
    assert [place for group in groups for place in group] == list(range(len(tokens)))
    assert all(len(group) >= 2 for group in groups[:-1])
    assert len(groups) <= math.ceil(len(tokens) / 2)
    for group in groups:
        assert len(group) <= 2 or sum(tokens[place] for place in group) < limit


@given(TOKENS, st.integers(8, 600))
def test_no_division_needs_fewer_chunks(tokens: list[int], limit: int) -> None:
    fewest = [0] + [10**9] * len(tokens)
    for end in range(1, len(tokens) + 1):
        for start in range(end):
            size = end - start
            fits = size == 2 or (size > 2 and sum(tokens[start:end]) < limit)
            if fits or (size == 1 and end == len(tokens)):
                fewest[end] = min(fewest[end], fewest[start] + 1)
    assert len(joined(tokens, limit)) == fewest[-1]


@given(st.integers(1, 3000), st.floats(0, 700), st.integers(8, 600))
def test_it_ends_after_few_levels(chunks: int, tokens: float, limit: int) -> None:
    levels = chunks_above(chunks, tokens, limit)
    assert len(levels) <= math.ceil(math.log2(chunks))
    assert sum(levels) <= chunks - 1


def test_summaries_are_spread_evenly() -> None:
    assert joined([50] * 6, 260) == [range(3), range(3, 6)]
    assert joined([128] * 5, 300) == [range(2), range(2, 4), range(4, 5)]
    assert chunks_above(160, 64, 299) == [40, 10, 3, 1]
    assert chunks_above(1, 64, 299) == []


def test_a_summary_left_alone_goes_up_as_it_is(pegasus: Path) -> None:
    tokenizer = ChunkTokenizer.load(pegasus, "", 512)
    below = first_level(
        [Chunk(text, tuple(tokenizer.encode(text))) for text in ("good sound", "poor", "it works")]
    )
    assert below.parts == (2, 1, 2)
    settings = SummarySettings(chunk_tokens=8, strategy="hierarchical")
    level = SummaryJoiner(tokenizer, settings).join(below, ["good sound", "poor", "it works"])
    assert [chunk.text for chunk in level.chunks] == ["good sound poor"]
    assert (level.parts, level.carried) == ((2,), below.keys[2])
    assert level.summaries == (*level.keys, below.keys[2])
