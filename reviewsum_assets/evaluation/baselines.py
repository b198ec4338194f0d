"""What can be had without a model, from the same reviews: what a summarizer has to beat.

Lead, random and central review are the baselines of Bražinskas et al. (2020, arXiv:1911.02247 and
2004.14884), who call the last one clustroid. Two bounds know the references: the best review
tells how far choosing one review could go, people how well they agree with each other.
"""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations, zip_longest

from reviewsum_assets.evaluation.candidates import Candidate
from reviewsum_assets.evaluation.rouge import Rouge, words_of

LEAD, RANDOM, CENTRAL = "lead sentences", "random review", "central review"
BEST, HUMAN = "best review", "human"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
# 50 reviews are 1,225 pairs; the first 3,500 characters rarely hold more.
_MOST_COMPARED = 50

Texts = Mapping[str, tuple[str, ...]]


def baselines(reviews: Texts, references: Texts, rouge: Rouge, seed: int) -> list[Candidate]:
    """The baselines, and the best review.

    Args:
        reviews: of each product, those that the model sees.
        references: of the same products; the lead is as long as they are on average.
        rouge: measures how alike reviews are.
        seed: of the random review.
    """
    words = statistics.fmean(len(words_of(text)) for texts in references.values() for text in texts)

    def chosen(choose: Callable[[str], str]) -> Texts:
        return {product: (choose(product),) for product in reviews}

    return [
        Candidate(LEAD, "baseline", chosen(lambda p: lead(reviews[p], words))),
        # A product's own seed: its review does not depend on which other products there are.
        Candidate(
            RANDOM,
            "baseline",
            chosen(lambda p: random.Random(f"{seed} {p}").choice(reviews[p])),
        ),
        Candidate(CENTRAL, "baseline", chosen(lambda p: central_review(reviews[p], rouge))),
        Candidate(BEST, "bound", chosen(lambda p: best_review(reviews[p], references[p], rouge))),
    ]


def people(references: Texts) -> Candidate:
    """Every reference against the others of its product."""
    return Candidate(HUMAN, "bound", references, leaves_itself_out=True)


def lead(reviews: Sequence[str], words: float) -> str:
    """The first sentence of each review, in order, then the second ones; so many words of it."""
    sentences = [_SENTENCE_END.split(review) for review in reviews]
    in_turn = chain.from_iterable(zip_longest(*sentences, fillvalue=""))
    return " ".join(" ".join(in_turn).split()[: round(words)])


def central_review(reviews: Sequence[str], rouge: Rouge) -> str:
    """The review with the highest mean ROUGE-L to the others; among equals the first."""
    compared = reviews[:_MOST_COMPARED]
    sums = [0.0] * len(compared)
    for (one, text), (other, other_text) in combinations(enumerate(compared), 2):
        similarity = rouge.similarity(text, other_text)
        sums[one] += similarity
        sums[other] += similarity
    return compared[sums.index(max(sums))]


def best_review(reviews: Sequence[str], references: Sequence[str], rouge: Rouge) -> str:
    """The review with the highest mean ROUGE-L to the references."""
    return max(
        reviews,
        key=lambda review: statistics.fmean(rouge.similarity(one, review) for one in references),
    )
