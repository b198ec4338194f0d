"""Highlights of a product: the sentences of its reviews that most of its reviews support.

They are the customers' own words, chosen without a model. A review supports a sentence as far as
one of its own is similar: the cosine of their words, weighted by how few reviews contain a word
(TF-IDF). Critical reviews get the share of the words that they have of the reviews.

Work per product is bounded by the caps below, whatever its reviews are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from reviewsum_assets.reviews.sentences import (
    CRITICAL_BELOW,
    LINE_OR_WORD,
    SENTENCE_END,
    STOP_WORDS,
)

MOST_WORDS = 60
# Support is measured in these reviews, spread evenly over all. The share of 200 drawn reviews
# differs from that of all by less than 7 points in 19 of 20 cases; more would change few choices.
_MOST_REVIEWS = 200
# Nearly every review is shorter; the rest of a longer one is not read.
_MOST_CHARS = 2_000
# Sentences of each side, critical or not, that are nearest to the mean of all: only these are
# compared with all others, so that time grows with the number of sentences, not with its square.
_MOST_CANDIDATES = 64
# Shorter sentences, such as "Love it!", say nothing of the product.
_FEWEST_WORDS = 4
# A sentence that is more similar to a chosen one repeats it.
_MOST_SIMILAR = 0.6


HIGHLIGHT = pl.Struct({"sentence": pl.String, "review": pl.Int32, "stars": pl.Float32})

_Floats = NDArray[np.float64]
_Numbers = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Highlight(NamedTuple):
    """A sentence, verbatim, with the line of all_reviews that has it, and its stars if known."""

    sentence: str
    review: int
    stars: float | None


class _Sentences(NamedTuple):
    """Sentences that have a word with a meaning, and the review and number of words of each."""

    texts: list[str]
    reviews: _Numbers
    lengths: _Numbers


class _Vectors(NamedTuple):
    """Unit vectors of sentences: those of sentence n begin at ``starts[n]``, one per word."""

    words: _Numbers
    weights: _Floats
    starts: _Numbers


def highlights_of_product(
    all_reviews: str, stars: Sequence[float | None] | None
) -> list[Highlight]:
    """Choose sentences as ``highlights_of`` does.

    Args:
        all_reviews: one review per line.
        stars: of each review; None where one line holds all reviews: then sentences support
            sentences.
    """
    if stars is not None:
        return highlights_of(all_reviews.split("\n"), stars)
    sentences = SENTENCE_END.split(all_reviews)
    chosen = highlights_of(sentences, [None] * len(sentences))
    return [highlight._replace(review=0) for highlight in chosen]


def highlights_of(reviews: Sequence[str], stars: Sequence[float | None]) -> list[Highlight]:
    """Choose sentences of at most ``MOST_WORDS`` words, the best supported first.

    Args:
        reviews: all reviews of a product, each without line ends.
        stars: of each review.
    """
    sentences, vectors = _read(reviews)
    if not sentences.texts:
        return []
    critical_reviews = [one is not None and one < CRITICAL_BELOW for one in stars]
    is_critical = np.array(critical_reviews)[sentences.reviews]
    candidates = _candidates(sentences, vectors, is_critical)
    known = sum(one is not None for one in stars)
    share = sum(critical_reviews) / max(1, known)
    support, similar = _support(candidates, sentences, vectors)
    chosen = _chosen(
        support, similar, sentences.lengths[candidates], is_critical[candidates], share
    )
    places = candidates[chosen]
    return [
        Highlight(sentences.texts[place], review, stars[review])
        for place, review in zip(places, sentences.reviews[places].tolist(), strict=True)
    ]


def _read(reviews: Sequence[str]) -> tuple[_Sentences, _Vectors]:
    """The sentences of evenly spread reviews, and their vectors."""
    texts: list[str] = []
    owners: list[int] = []
    step = max(1.0, len(reviews) / _MOST_REVIEWS)
    for review in (int(place * step) for place in range(min(len(reviews), _MOST_REVIEWS))):
        found = SENTENCE_END.split(reviews[review][:_MOST_CHARS])
        if len(reviews[review]) > _MOST_CHARS:
            found.pop()  # it may be cut off
        texts += found
        owners += [review] * len(found)
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__  # a new word gets the next number
    unsaid = len([numbers[word] for word in ("\n", *sorted(STOP_WORDS))])
    tokens = LINE_OR_WORD.findall("\n".join(texts).lower().replace("\u2019", "'"))
    words = np.fromiter(map(numbers.__getitem__, tokens), dtype=np.int64, count=len(tokens))
    of_sentence = np.cumsum(words == 0)
    lengths = np.array([len(text.split()) for text in texts], dtype=np.int64)
    has_meaning = words >= unsaid
    pairs, times = np.unique(
        of_sentence[has_meaning] * len(numbers) + words[has_meaning], return_counts=True
    )
    rows, words = np.divmod(pairs, len(numbers))
    kept, starts, rows = np.unique(rows, return_index=True, return_inverse=True)
    sentences = _Sentences(
        [texts[row] for row in kept], np.array(owners, dtype=np.int64)[kept], lengths[kept]
    )
    by_review = np.unique(sentences.reviews[rows] * len(numbers) + words) % len(numbers)
    rarity = np.log1p(len(reviews) / step / np.maximum(1, np.bincount(by_review)))
    weights = times * rarity[words]
    norms = np.sqrt(np.bincount(rows, weights**2))
    return sentences, _Vectors(words, weights / norms[rows], starts)


def _candidates(sentences: _Sentences, vectors: _Vectors, is_critical: _Flags) -> _Numbers:
    """The sentences of each side that are nearest to the mean of all."""
    mean = np.bincount(vectors.words, vectors.weights)
    nearness = np.add.reduceat(mean[vectors.words] * vectors.weights, vectors.starts)
    is_whole = (sentences.lengths >= _FEWEST_WORDS) & (sentences.lengths <= MOST_WORDS)
    sides = (np.flatnonzero(is_whole & (is_critical == side)) for side in (True, False))
    nearest = [side[np.argsort(-nearness[side], kind="stable")] for side in sides]
    return np.concatenate([side[:_MOST_CANDIDATES] for side in nearest])


def _support(
    candidates: _Numbers, sentences: _Sentences, vectors: _Vectors
) -> tuple[_Floats, _Floats]:
    """The mean support of each candidate by all reviews, and its similarity to all candidates."""
    of_words = np.zeros((vectors.words.max() + 1, len(candidates)), dtype=np.float32)
    ends = np.append(vectors.starts, len(vectors.words))
    for column, sentence in enumerate(candidates):
        entries = slice(ends[sentence], ends[sentence + 1])
        of_words[vectors.words[entries], column] = vectors.weights[entries]
    products = of_words[vectors.words] * vectors.weights[:, np.newaxis].astype(np.float32)
    similar = np.add.reduceat(products, vectors.starts)
    first_of_review = np.flatnonzero(np.diff(sentences.reviews, prepend=-1))
    support = np.maximum.reduceat(similar, first_of_review).mean(axis=0)
    return support, similar[candidates]


def _chosen(
    support: _Floats, similar: _Floats, lengths: _Numbers, is_critical: _Flags, share: float
) -> list[int]:
    """Choose candidates by support; critical ones have at most ``share`` of the words.

    The smaller side is chosen first, since the other one takes all words that are left.
    """
    chosen: list[int] = []
    left = MOST_WORDS
    is_critical_first = share <= 0.5
    smaller = round(MOST_WORDS * min(share, 1 - share))
    order = np.argsort(-support, kind="stable")
    for side, most in ((is_critical_first, smaller), (not is_critical_first, MOST_WORDS)):
        left_of_side = min(left, most)
        for one in order[is_critical[order] == side]:
            is_new = not chosen or similar[one, chosen].max() <= _MOST_SIMILAR
            if is_new and lengths[one] <= left_of_side:
                chosen.append(one)
                left_of_side -= lengths[one]
                left -= lengths[one]
    return sorted(chosen, key=lambda one: -support[one])
