"""How far two contenders say the same of the same chunks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from reviewsum_assets.bench.contenders import ChunkResult


@dataclass(frozen=True)
class Agreement:
    """Over the chunks that both summarized: the share of equal summaries, mean ROUGE-L F1.

    ``differing`` shows each pair that is not equal, for people.
    """

    chunks: int
    identical_share: float
    rouge_l: float
    differing: tuple[str, ...]


def agreement(
    name: str, reference: Sequence[ChunkResult], other: Sequence[ChunkResult]
) -> Agreement:
    """Compare summaries chunk by chunk; chunks are known by their tokens."""
    # Its tokenizer library takes seconds to import.
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    expected = {chunk.token_ids: chunk.summary for chunk in reference}
    scores: list[float] = []
    differing: list[str] = []
    for ids, summary in {chunk.token_ids: chunk.summary for chunk in other}.items():
        wanted = expected.get(ids)
        if wanted is None:
            continue
        if summary == wanted:
            scores.append(1.0)
            continue
        scores.append(scorer.score(wanted, summary)["rougeL"].fmeasure)
        differing.append(f"{name}, {len(ids)} tokens:\n  {wanted}\n  {summary}")
    if not scores:
        return Agreement(0, 0.0, 0.0, ())
    return Agreement(
        chunks=len(scores),
        identical_share=1 - len(differing) / len(scores),
        rouge_l=statistics.mean(scores),
        differing=tuple(differing),
    )
