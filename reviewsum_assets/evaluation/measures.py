"""ROUGE F1, with Google's library and the choices that opinion summarization has made.

Words are stemmed, and of several references the mean is taken, as Bražinskas et al. do (2020,
"Few-Shot Learning for Opinion Summarization", arXiv:2004.14884; their published code), so that
figures on their references can be held against published ones. Lin (2004, "ROUGE: A Package for
Automatic Evaluation of Summaries") takes the best reference, which gives more to whoever is held
against more of them; a mean does not, so that people can be scored against each other.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import polars as pl

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


_NOVEL = 2
_REPEATED = 3


class TextMeasures(NamedTuple):
    """Measures of one summary.

    ``compression`` is words of the reviews a word of the summary (Grusky et al. 2018,
    arXiv:1804.11283); ``novelty`` the share of its bigrams that no review has (See et al. 2017,
    arXiv:1704.04368): 0 is copied, near 1 is made up or badly garbled; ``repetition`` the share of
    its trigrams that it has said before. Shares of nothing are 0.
    """

    words: float
    compression: float
    novelty: float
    repetition: float


def measure_text(summary: str, reviews: Sequence[str]) -> TextMeasures:
    """Measure one summary beside the reviews that it was made from."""
    words = words_of(summary)
    sources = [words_of(review) for review in reviews]
    known = {gram for source in sources for gram in _grams(source, _NOVEL)}
    bigrams = set(_grams(words, _NOVEL))
    trigrams = list(_grams(words, _REPEATED))
    return TextMeasures(
        words=len(words),
        compression=sum(map(len, sources)) / max(1, len(words)),
        novelty=len(bigrams - known) / max(1, len(bigrams)),
        repetition=1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0,
    )


def _grams(words: Sequence[str], size: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[place:] for place in range(size)), strict=False)


# Of fewer, a rank correlation says nothing.
_FEWEST = 10


class Sentiment:
    """Judges texts; needs the extra ``evaluation``, see ``is_installed``."""

    def __init__(self) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()

    @staticmethod
    def is_installed() -> bool:
        """Whether the lexicon is there."""
        return find_spec("vaderSentiment") is not None

    def agreement(self, texts: Sequence[str], ratings: Sequence[float | None]) -> float | None:
        """The rank correlation of texts and stars; None of fewer than ten, or of equal ones."""
        table = pl.DataFrame(
            {"said": [self._of(text) for text in texts], "stars": ratings},
            schema={"said": pl.Float64, "stars": pl.Float64},
        ).drop_nulls()
        if table.height < _FEWEST or 1 in (table["said"].n_unique(), table["stars"].n_unique()):
            return None
        return float(table.select(pl.corr("said", "stars", method="spearman")).item())

    def _of(self, text: str) -> float:
        """From -1, all is bad, to 1, all is good."""
        return float(self._analyzer.polarity_scores(text)["compound"])


RESAMPLES = 1_000
_PERCENTILES = (2.5, 97.5)


class Interval(NamedTuple):
    """A mean, and the bounds within which it lies with 95 % confidence."""

    mean: float
    low: float
    high: float


class Bootstrap:
    """Resamples so many products.

    Args:
        products: how many there are.
        seed: equal seeds give equal intervals.
    """

    def __init__(self, products: int, seed: int) -> None:
        self._places = np.random.default_rng(seed).integers(products, size=(RESAMPLES, products))

    def interval(self, values: Sequence[float]) -> Interval:
        """The interval of a mean over products; ``values`` are in the same order every time."""
        found = np.asarray(values)
        low, high = np.percentile(found[self._places].mean(axis=1), _PERCENTILES)
        return Interval(float(found.mean()), float(low), float(high))
