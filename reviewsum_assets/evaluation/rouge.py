"""ROUGE F1, with Google's library and the choices that opinion summarization has made.

Words are stemmed, and of several references the mean is taken, as Bražinskas et al. do (2020,
"Few-Shot Learning for Opinion Summarization", arXiv:2004.14884; their published code), so that
figures on their references can be held against published ones. Lin (2004, "ROUGE: A Package for
Automatic Evaluation of Summaries") takes the best reference, which gives more to whoever is held
against more of them; a mean does not, so that people can be scored against each other.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

# Texts of one product meet each other many times, and stemming takes most of the time.
_CACHED_TEXTS = 10_000


class RougeScores(NamedTuple):
    """F1 of unigrams, bigrams and the longest common subsequence, from 0 to 1."""

    rouge1: float
    rouge2: float
    rouge_l: float


class Rouge:
    """Scores texts; one instance remembers the words of texts that it has seen."""

    def __init__(self) -> None:
        # Its tokenizer library takes seconds to import, which most commands need not pay.
        from rouge_score.rouge_scorer import RougeScorer
        from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

        plain = DefaultTokenizer(use_stemmer=True)

        class Remembering(Tokenizer):  # type: ignore[misc]  # rouge_score is untyped
            """Splits a text once."""

            tokenize = staticmethod(lru_cache(_CACHED_TEXTS)(plain.tokenize))

        self._all = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Remembering())
        self._longest = RougeScorer(["rougeL"], tokenizer=Remembering())

    def scores(self, references: Sequence[str], text: str) -> RougeScores:
        """Means over the references."""
        found = [self._all.score(reference, text) for reference in references]
        return RougeScores(
            *(
                statistics.fmean(scores[name].fmeasure for scores in found)
                for name in ("rouge1", "rouge2", "rougeL")
            )
        )

    def similarity(self, one: str, other: str) -> float:
        """ROUGE-L F1, which does not depend on which of the two is the reference."""
        return float(self._longest.score(one, other)["rougeL"].fmeasure)


def words_of(text: str) -> list[str]:
    """The words that ROUGE sees, not stemmed: runs of a to z and digits, in lower case."""
    from rouge_score.tokenize import tokenize

    return list(tokenize(text, None))
