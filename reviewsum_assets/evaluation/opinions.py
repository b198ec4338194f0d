"""Measures that need no reference: a text beside all reviews of its product.

- A sentence is supported if reviews say the same (``reviews.evidence``).
- A sentence is critical if VADER finds its direction negative; what ``two_sided`` puts on the
  disliked side is critical as a whole. The share of critical sentences, among those with an
  opinion, is compared with the share of critical reviews, those below 3 of 5 stars.
- A sentence repeats an earlier one if it says the same (``reviews.sentences``).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from reviewsum_assets.checkpoints.sides import DISLIKED, LIKED
from reviewsum_assets.evaluation.entailment import EntailmentModel
from reviewsum_assets.reviews.evidence import evidence_of
from reviewsum_assets.reviews.sentences import (
    CRITICAL_BELOW,
    NEUTRAL,
    SENTENCE_END,
    direction,
    without_repeats,
)


class AllReviews(NamedTuple):
    """All reviews of a product with their stars; where one line holds all, its sentences."""

    texts: Sequence[str]
    stars: Sequence[float | None]

    @classmethod
    def of_product(cls, all_reviews: str, stars: Sequence[float | None] | None) -> AllReviews:
        """Divide ``all_reviews``; ``stars`` is None where its reviews cannot be separated."""
        texts = all_reviews.split("\n") if stars else SENTENCE_END.split(all_reviews)
        return cls(texts, stars or [None] * len(texts))

    @property
    def critical_share(self) -> float | None:
        """The share of critical reviews among those with stars, or None without any."""
        known = [stars < CRITICAL_BELOW for stars in self.stars if stars is not None]
        return statistics.fmean(known) if known else None

    @property
    def critical_sentences(self) -> float:
        """The share of critical sentences, as of a text."""
        sentences = (one for text in self.texts for one in SENTENCE_END.split(text))
        return _critical_share((one, False) for one in sentences)


class Opinions(NamedTuple):
    """Shares of one text, from 0 to 1.

    ``supported`` is the share of its sentences that reviews support, among those that claim
    something: None if none does. ``critical`` is the share of critical sentences among those with
    an opinion, 0 if none has one, and ``critical_gap`` its distance from the share of critical
    reviews: both are None if no review has stars. ``repeated_sentences`` is the share of sentences
    that say what an earlier one said. ``unsupported_words`` is that of an entailment model, if one
    is given.
    """

    supported: float | None
    critical: float | None
    critical_gap: float | None
    repeated_sentences: float
    unsupported_words: float | None


def opinions_of(
    text: str, reviews: AllReviews, entailment: EntailmentModel | None = None
) -> Opinions:
    """Compare a text with all reviews of its product."""
    unsupported = None if entailment is None else entailment.unsupported_share(text, reviews.texts)
    divided = list(_divided(text))
    sentences = [sentence for sentence, _ in divided]
    found = [one.supported for one in evidence_of(sentences, reviews.texts, reviews.stars)]
    known = [is_supported for is_supported in found if is_supported is not None]
    expected = reviews.critical_share
    critical = None if expected is None else _critical_share(divided)
    distinct = SENTENCE_END.split(without_repeats(" ".join(sentences)))
    return Opinions(
        supported=statistics.fmean(known) if known else None,
        critical=critical,
        critical_gap=None if critical is None or expected is None else abs(critical - expected),
        repeated_sentences=1 - len(distinct) / max(1, len(sentences)),
        unsupported_words=unsupported,
    )


def _divided(text: str) -> Iterator[tuple[str, bool]]:
    """The sentences of a text, and whether each is on the disliked side of a summary with sides."""
    liked, label, disliked = text.partition(DISLIKED)
    if label and liked and not liked.startswith(LIKED):
        liked, disliked = text, ""
    for side, is_disliked in ((liked.removeprefix(LIKED), False), (disliked, True)):
        for sentence in SENTENCE_END.split(side.strip()):
            if sentence:
                yield sentence, is_disliked


def _critical_share(sentences: Iterable[tuple[str, bool]]) -> float:
    """The share of critical sentences among those with an opinion; without any it is 0."""
    critical = favourable = 0
    for sentence, is_disliked in sentences:
        found = direction(sentence)
        critical += is_disliked or found <= -NEUTRAL
        favourable += not is_disliked and found >= NEUTRAL
    return critical / max(1, critical + favourable)
