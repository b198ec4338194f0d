"""Measures of summaries: ROUGE F1, copying and repetition, agreement with stars, intervals.

ROUGE stems words and takes the mean over several references, as Bražinskas et al. do (2020,
"Few-Shot Learning for Opinion Summarization", arXiv:2004.14884), so that scores are comparable
with published ones. The best reference instead (Lin 2004, "ROUGE: A Package for Automatic
Evaluation of Summaries") would favor a text with more references, and so forbid scoring people.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from reviewsum_assets.reviews.sentences import direction

RESAMPLES = 1_000
_PERCENTILES = (2.5, 97.5)
# Below this number of products a rank correlation means nothing.
_FEWEST_RANKED = 10
# Each text of a product is compared many times, and stemming dominates the cost.
_CACHED_TEXTS = 10_000


class Interval(NamedTuple):
    """A mean and the bounds of its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Figures(NamedTuple):
    """Measures of one text; ROUGE from 0 to 1, shares of an empty set are 0.

    ``rouge1``, ``rouge2`` and ``rouge_l`` are F1 of unigrams, bigrams and the longest common
    subsequence. ``compression`` is review words per word of the text (Grusky et al. 2018,
    arXiv:1804.11283). ``novelty`` is the share of its bigrams that no review has (See et al. 2017,
    arXiv:1704.04368): 0 is copied, near 1 is invented or garbled. ``repetition`` is the share of
    its trigrams that repeat an earlier one.
    """

    rouge1: float
    rouge2: float
    rouge_l: float
    words: float
    compression: float
    novelty: float
    repetition: float


def measure(text: str, references: Sequence[str], reviews: Sequence[str]) -> Figures:
    """Measure a text against references and the reviews that it was made from."""
    scores = [_scorer("rouge1", "rouge2", "rougeL").score(one, text) for one in references]
    rouge1, rouge2, rouge_l = (
        statistics.fmean(found[name].fmeasure for found in scores)
        for name in ("rouge1", "rouge2", "rougeL")
    )
    words = words_of(text)
    sources = [words_of(review) for review in reviews]
    known = {bigram for source in sources for bigram in _grams(source, 2)}
    bigrams = set(_grams(words, 2))
    trigrams = list(_grams(words, 3))
    compression = sum(map(len, sources)) / max(1, len(words))
    novelty = len(bigrams - known) / max(1, len(bigrams))
    repetition = 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
    return Figures(rouge1, rouge2, rouge_l, len(words), compression, novelty, repetition)


def similarity(one: str, other: str) -> float:
    """Return ROUGE-L F1, which is symmetric."""
    return float(_scorer("rougeL").score(one, other)["rougeL"].fmeasure)


def words_of(text: str) -> list[str]:
    """Return the words that ROUGE reads, not stemmed: runs of a to z and digits, in lower case."""
    from rouge_score.tokenize import tokenize

    return list(tokenize(text, None))


def sentiment_agreement(texts: Sequence[str], stars: Sequence[float | None]) -> float | None:
    """Return the rank correlation of sentiment and stars.

    None for fewer than ten products with stars, or if all sentiments or all stars are equal.
    """
    table = pl.DataFrame(
        {"sentiment": map(direction, texts), "stars": stars},
        {"sentiment": pl.Float64, "stars": pl.Float64},
    ).drop_nulls()
    if table.height < _FEWEST_RANKED or any(column.n_unique() == 1 for column in table):
        return None
    return float(table.select(pl.corr("sentiment", "stars", method="spearman")).item())


def bootstrap_interval(values: Sequence[float], seed: int) -> Interval:
    """Return the interval of a mean over products; one seed resamples the same products."""
    array = np.asarray(values)
    places = np.random.default_rng(seed).integers(len(array), size=(RESAMPLES, len(array)))
    low, high = np.percentile(array[places].mean(axis=1), _PERCENTILES)
    return Interval(float(array.mean()), float(low), float(high))


@lru_cache
def _scorer(*rouge_types: str) -> Any:
    # The tokenizer library takes seconds to import.
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    tokenizer = DefaultTokenizer(use_stemmer=True)
    tokenizer.tokenize = lru_cache(_CACHED_TEXTS)(tokenizer.tokenize)
    return RougeScorer(rouge_types, tokenizer=tokenizer)


def _grams(words: Sequence[str], size: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(size)), strict=False)
