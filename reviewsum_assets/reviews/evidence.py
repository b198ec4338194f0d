"""Evidence for the sentences of a summary: the reviews that say the same, and those that disagree.

A sentence is divided into its claims, the parts between commas and conjunctions. A sentence of a
review matches a claim by the share of the claim's words that it contains, weighted by how few
reviews contain a word (inverse document frequency). Of the sentences that match, those of the
opposite direction speak against the claim. Time grows with the number of words of the reviews.

Limits: words are compared, not meanings. A paraphrase without a common word is not found, claims of
different reviews can be combined into a sentence that none of them makes, and irony is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reviewsum_assets.reviews.sentences import (
    CRITICAL_BELOW,
    LINE_OR_WORD,
    NEGATIONS,
    NEUTRAL,
    SENTENCE_END,
    direction,
    has_meaning,
    is_opinion,
    stem,
    words_of,
)

# Share of a claim's words from which on a review's sentence matches it, and of a sentence's claims
# from which on the sentence is supported. docs/evaluation.md has the precision.
MATCH = 0.6
# A review supports a sentence from this share of its claims on: one of the three of a list.
_LEAST_OF_SENTENCE = 0.2
# Nearly the same sentence: a negation more or less turns its direction, and nothing else does.
_SAME = 0.8
# Opinions on the same thing have many words, and their direction is compared: they count less, and
# so do the words before the last one in a claim such as "the awkward size".
_QUALIFIER, _LONGEST_PHRASE = 0.3, 3
# The rest of a longer review is not read; fewer than one review in 200 is longer.
_MOST_CHARS = 5_000
# Bounds memory: the words of so many reviews at a time.
_REVIEWS_AT_A_TIME = 5_000
_QUOTES, _QUOTE_CHARS = 3, 300
_FAVOURABLE_FROM = 4  # stars

# Words with which a summary speaks about reviews; no review has to contain them.
_REPORTING = (
    "buyer buyers customer customers reviewer reviewers review reviews user users owner owners "
    "people person everyone anyone hardly most many few several some nearly overall common "
    "above main mainly often generally opinion opinions mixed differ even other hand ones clearly "
    "although though however including praise praises praised criticism complain complains "
    "complained complaint complaints mention mentions mentioned say says said report reports "
    "reported note noted find finds found feel feels felt think thinks thought problem problems "
    "issue issues biggest point points regret happy unhappy disappointed satisfied disagree like "
    "likes liked love loves loved dislike disliked product products"
)
_REPORTED = frozenset(_REPORTING.split())
# A sentence that weighs praise against criticism claims nothing that a single review could say.
_VERDICT = re.compile(r"\boutweighs?\b|\b(?:about|roughly) even\b")
_CLAIM_END = re.compile(
    r"[,;:()]|\s[-\u2013\u2014]\s|\b(?:and|but|or|although|though|while|because)\b"
)
# VADER takes this hand for a helping one.
_ASIDE = re.compile(r"\bon (?:the )?(?:one|other) hand\b")
_DETERMINERS = frozenset(("the", "a", "an", "this", "these", "its", "their", "my", "our", "your"))
_LINE, _OTHER_WORD = -2, -1

_Floats = NDArray[np.float64]
_Numbers = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Quote(NamedTuple):
    """A sentence of a review, verbatim, with the line of all_reviews that contains it."""

    quote: str
    review: int


class Evidence(NamedTuple):
    """The evidence for one sentence.

    ``support`` and ``against`` count reviews, of all ``reviews`` that were compared. ``score`` is
    the share of the sentence that reviews contain: each claim counts by its words, and as far as
    the best sentence of any review matches it. ``supported`` is None for a sentence that claims
    nothing about the product. ``agreement`` is the mean over all reviews of the share of the
    sentence that their best sentence contains, also of those that contain little of it.
    """

    sentence: str
    reviews: int
    support: int = 0
    against: int = 0
    score: float = 0.0
    agreement: float = 0.0
    supported: bool | None = None
    quotes: tuple[Quote, ...] = ()


def evidence_of(
    sentences: Sequence[str],
    reviews: Sequence[str],
    stars: Sequence[float | None],
    votes: Sequence[float | None] = (),
) -> list[Evidence]:
    """Find the evidence for each sentence of one product's summary.

    Args:
        sentences: of the summary.
        reviews: all reviews of the product.
        stars: of each review; they decide the direction of a sentence that has none.
        votes: of each review; of equally good quotes the one with more votes is the better one.
    """
    claims = [claim for place, text in enumerate(sentences) for claim in _claims(place, text)]
    words = dict.fromkeys(word for claim in claims for word in claim.words)
    if not words or not reviews:
        return [Evidence(text, len(reviews)) for text in sentences]
    found = _Found.read(reviews, {word: number for number, word in enumerate(words)})
    helpful = np.array(votes or [0.0] * len(reviews), dtype=np.float64)
    return [
        _evidence(text, [one for one in claims if one.sentence == place], found, stars, helpful)
        for place, text in enumerate(sentences)
    ]


def shortened(text: str, words: int, reviews: Sequence[str], stars: Sequence[float | None]) -> str:
    """Keep the sentences with the most agreement, in their order, of at most so many words.

    Agreement rather than support decides, since in few reviews most sentences have the support of
    one. A single sentence may be longer, since a summary must not be empty.
    """
    if len(text.split()) <= words:
        return text
    sentences = SENTENCE_END.split(text)
    evidence = evidence_of(sentences, reviews, stars)
    order = range(len(sentences))
    kept: list[int] = []
    left = words
    for place in sorted(order, key=lambda n: (-evidence[n].agreement, n)):
        length = len(sentences[place].split())
        if length <= left or not kept:
            kept.append(place)
            left -= length
    return " ".join(sentences[place] for place in sorted(kept))


class _Claim(NamedTuple):
    """A part of the sentence with this place: its stems, how much each counts, its direction."""

    sentence: int
    words: tuple[str, ...]
    counts: tuple[float, ...]
    direction: float
    is_negated: bool


def _claims(place: int, sentence: str) -> Iterator[_Claim]:
    text = sentence.lower().replace("\u2019", "'")
    if _VERDICT.search(text):
        return
    current = direction(text)
    for part in _CLAIM_END.split(_ASIDE.sub(" ", text)):
        # A part without a direction has that of the part before it, else that of the sentence.
        own = direction(part)
        current = own if abs(own) > NEUTRAL else current
        spoken = words_of(part)
        told = {
            stem(word): number
            for number, word in enumerate(spoken)
            if word not in _REPORTED and has_meaning(word)
        }
        if not told:
            continue
        counts = _counts(spoken, list(told.values()))
        yield _Claim(place, tuple(told), counts, current, _is_negated(spoken))


def _counts(spoken: Sequence[str], told: Sequence[int]) -> tuple[float, ...]:
    """How much each word of a claim counts, at these places of what is ``spoken``."""
    first, last = told[0], max(told)
    # Words in a row behind an article: "the awkward size", but not "the sound is great".
    is_phrase = first > 0 and spoken[first - 1] in _DETERMINERS and last - first < len(told)
    if is_phrase and len(told) <= _LONGEST_PHRASE:
        return tuple(1.0 if place == last else _QUALIFIER for place in told)
    opinions = [is_opinion(spoken[place]) for place in told]
    return tuple(_QUALIFIER if one and not all(opinions) else 1.0 for one in opinions)


class _Found(NamedTuple):
    """Words of claims that were found in sentences of reviews.

    A row is a sentence with such words: those of row n begin at ``starts[n]`` of ``words``. Row n
    is the sentence ``place_of[n]`` of the review ``review_of[n]``, with ``lengths[n]`` words.
    """

    reviews: Sequence[str]
    numbers: dict[str, int]
    weights: _Floats  # of each word: the fewer reviews contain it, the higher
    words: _Numbers
    starts: _Numbers
    review_of: _Numbers
    place_of: _Numbers
    lengths: _Numbers

    @classmethod
    def read(cls, reviews: Sequence[str], numbers: dict[str, int]) -> _Found:
        """Find the numbered stems in all sentences."""
        known = _Known(numbers)
        blocks = [
            _read_block(reviews[first : first + _REVIEWS_AT_A_TIME], first, known)
            for first in range(0, len(reviews), _REVIEWS_AT_A_TIME)
        ]
        words, review_of, place_of, lengths, is_first = (
            np.concatenate(parts) for parts in zip(*blocks, strict=True)
        )
        by_review = np.unique(review_of * len(numbers) + words) % len(numbers)
        reviews_with = np.bincount(by_review, minlength=len(numbers))
        weights = np.log1p(len(reviews) / np.maximum(1, reviews_with))
        starts = np.flatnonzero(is_first)
        rows = (review_of[starts], place_of[starts], lengths[starts])
        return cls(reviews, numbers, weights, words, starts, *rows)

    def weight(self, claim: _Claim) -> float:
        """How much a claim counts: by its words, the rare ones more."""
        return float(self._weights_of(claim).sum())

    def shares(self, claims: Sequence[_Claim]) -> _Floats:
        """The share of the claims' words that each row contains."""
        own = np.zeros(len(self.numbers))
        for claim in claims:
            own[[self.numbers[word] for word in claim.words]] = self._weights_of(claim)
        return np.add.reduceat((own / own.sum())[self.words], self.starts)

    def text(self, row: int) -> str:
        """The sentence of a row."""
        return _sentences(self.reviews[int(self.review_of[row])])[int(self.place_of[row])]

    def _weights_of(self, claim: _Claim) -> _Floats:
        return self.weights[[self.numbers[word] for word in claim.words]] * claim.counts


class _Known(dict[str, int]):
    """The number of each word as it is written."""

    def __init__(self, numbers: dict[str, int]) -> None:
        super().__init__({"\n": _LINE})
        self._numbers = numbers

    def __missing__(self, word: str) -> int:
        number = self[word] = self._numbers.get(stem(word), _OTHER_WORD)
        return number


def _sentences(review: str) -> list[str]:
    return SENTENCE_END.split(review[:_MOST_CHARS])


def _read_block(reviews: Sequence[str], first: int, known: _Known) -> tuple[NDArray[Any], ...]:
    """Find the known words of each sentence, each once, in the order of sentences.

    Returns:
        Of each word its number, review, place of the sentence in the review, words of the
        sentence, and whether it is the first of its sentence.
    """
    divided = [_sentences(review) for review in reviews]
    counts = np.array([len(found) for found in divided])
    text = "\n".join(one for found in divided for one in found).lower().replace("\u2019", "'")
    tokens = LINE_OR_WORD.findall(text)
    found = np.fromiter(map(known.__getitem__, tokens), dtype=np.int64, count=len(tokens))
    row = np.cumsum(found == _LINE)
    lengths = np.bincount(row, minlength=int(counts.sum()))
    size = len(known)
    rows, words = np.divmod(np.unique(row[found >= 0] * size + found[found >= 0]), size)
    review = np.repeat(np.arange(len(reviews)), counts)
    place = np.arange(len(review)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_first = np.diff(rows, prepend=-1) > 0
    return words, first + review[rows], place[rows], lengths[rows], is_first


def _evidence(
    sentence: str,
    claims: Sequence[_Claim],
    found: _Found,
    stars: Sequence[float | None],
    votes: _Floats,
) -> Evidence:
    count = len(found.reviews)
    if not claims or not len(found.starts):
        return Evidence(sentence, count, supported=False if claims else None)
    whole = found.shares(claims)
    weights = [found.weight(claim) for claim in claims]
    support, against = np.zeros(count), np.zeros(count)
    worth = np.zeros(len(found.starts))  # of each row as a quote
    score = 0.0
    for claim, weight in zip(claims, np.divide(weights, sum(weights)), strict=True):
        shares = found.shares([claim])
        rows = _best_of_each_review(shares, whole, found)
        disagrees = np.array(
            [
                _is_turned(claim, found.text(row))
                if whole[row] >= _SAME
                else _is_against(claim, found.text(row), stars[found.review_of[row]])
                for row in rows
            ],
            dtype=np.bool_,
        )
        agreeing = rows[~disagrees]
        support[found.review_of[agreeing]] += weight
        against[found.review_of[rows[disagrees]]] += weight
        worth[agreeing] += weight * shares[agreeing]
        # Without a match, the nearest sentence says how far the claim is from one.
        score += weight * (shares[agreeing] if len(rows) else shares).max(initial=0)
    is_support = (support >= _LEAST_OF_SENTENCE) & (support > against)
    is_against = (against >= _LEAST_OF_SENTENCE) & ~is_support
    worth[~is_support[found.review_of]] = 0
    return Evidence(
        sentence=sentence,
        reviews=count,
        support=int(is_support.sum()),
        against=int(is_against.sum()),
        score=float(score),
        agreement=float(_best_shares(whole, found).sum() / count),
        supported=bool(is_support.any() and score >= MATCH),
        quotes=tuple(_quotes(worth, found, votes)),
    )


def _best_of_each_review(shares: _Floats, whole: _Floats, found: _Found) -> _Numbers:
    """The rows that match a claim, of each review the one with the most of it.

    Of equal ones the row that has more of the ``whole`` sentence, then the shorter one.
    """
    rows = np.flatnonzero(shares >= MATCH - 1e-9)
    keys = (found.lengths[rows], -whole[rows], -shares[rows], found.review_of[rows])
    order = np.lexsort(keys)
    rows = rows[order]
    return rows[np.diff(found.review_of[rows], prepend=-1) > 0]


def _best_shares(shares: _Floats, found: _Found) -> _Floats:
    """The largest share of each review that has a row."""
    firsts = np.flatnonzero(np.diff(found.review_of, prepend=-1))
    return np.asarray(np.maximum.reduceat(shares, firsts))


def _is_against(claim: _Claim, sentence: str, stars: float | None) -> bool:
    """Whether a sentence that matches a claim has the opposite direction."""
    if abs(claim.direction) <= NEUTRAL:
        return False
    found = _direction_of(sentence)
    if abs(found) <= NEUTRAL:
        if stars is None or CRITICAL_BELOW <= stars < _FAVOURABLE_FROM:
            return False
        found = 1 if stars >= _FAVOURABLE_FROM else -1
    return (found > 0) != (claim.direction > 0)


@lru_cache(20_000)
def _direction_of(sentence: str) -> float:
    return direction(sentence)


def _is_turned(claim: _Claim, sentence: str) -> bool:
    """Whether the part of a sentence that has the most of a claim has a negation more or less."""
    parts = [words_of(part) for part in _CLAIM_END.split(sentence.lower())]
    nearest = max(parts, key=lambda words: len(set(claim.words) & set(map(stem, words))))
    return _is_negated(nearest) != claim.is_negated


def _is_negated(words: Sequence[str]) -> bool:
    return sum(word in NEGATIONS for word in words) % 2 == 1


def _quotes(worth: _Floats, found: _Found, votes: _Floats) -> Iterator[Quote]:
    """The best quotes, at most one per review: of equal ones that with more votes, then shorter."""
    rows = np.flatnonzero(worth)
    order = np.lexsort((found.lengths[rows], -votes[found.review_of[rows]], -worth[rows].round(6)))
    seen: set[int] = set()
    for row in rows[order]:
        review = int(found.review_of[row])
        if review not in seen:
            seen.add(review)
            text = found.text(row)
            is_long = len(text) > _QUOTE_CHARS
            yield Quote(f"{text[: _QUOTE_CHARS - 2]} \u2026" if is_long else text, review)
        if len(seen) == _QUOTES:
            return
