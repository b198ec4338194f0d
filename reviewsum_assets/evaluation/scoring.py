"""The result of an evaluation, as one object."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.evaluation.measures import (
    Bootstrap,
    Interval,
    Rouge,
    RougeScores,
    Sentiment,
    TextMeasures,
    measure_text,
)
from reviewsum_assets.evaluation.systems import Candidate, Kind, ProductReviews, References


class SystemResult(BaseModel):
    """One row of the tables; see ``rouge``, ``text_measures`` and ``sentiment`` for the measures.

    ``difference`` is that of ROUGE-L to the system that all are compared with.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    source: str
    rouge1: Interval
    rouge2: Interval
    rouge_l: Interval
    difference: Interval
    words: float
    compression: float
    novelty: float
    repetition: float
    sentiment_agreement: float | None


class EvaluationResult(BaseModel):
    """Everything that was measured in one call.

    ``left_out`` counts, by name, the references' products that reviews or a system lack: all
    systems are compared on the ``products`` that none lacks.
    """

    model_config = ConfigDict(frozen=True)

    references: str
    reviews: str
    products: int
    references_a_product: float
    left_out: dict[str, int]
    compared_with: str
    seed: int
    notes: tuple[str, ...]
    systems: tuple[SystemResult, ...]


@dataclass(frozen=True)
class Scorer:
    """What all systems are held against: references, and reviews of at least their products."""

    references: References
    reviews: Mapping[str, ProductReviews]
    rouge: Rouge
    bootstrap: Bootstrap
    sentiment: Sentiment | None

    def results(
        self, candidates: Sequence[Candidate], compared_with: str
    ) -> tuple[SystemResult, ...]:
        """One result a candidate; ``compared_with`` is the name of one of them."""
        scores = {
            candidate.name: [self._scores(candidate, product) for product in self.references]
            for candidate in candidates
        }
        base = [found.rouge_l for found in scores[compared_with]]
        return tuple(
            self._result(candidate, scores[candidate.name], base) for candidate in candidates
        )

    def _result(
        self, candidate: Candidate, scores: Sequence[RougeScores], base: Sequence[float]
    ) -> SystemResult:
        interval = self.bootstrap.interval
        longest = [found.rouge_l for found in scores]
        measures = [self._measures(candidate, product) for product in self.references]
        words, compression, novelty, repetition = map(statistics.fmean, zip(*measures, strict=True))
        return SystemResult(
            name=candidate.name,
            kind=candidate.kind,
            source=candidate.source,
            rouge1=interval([found.rouge1 for found in scores]),
            rouge2=interval([found.rouge2 for found in scores]),
            rouge_l=interval(longest),
            difference=interval([one - other for one, other in zip(longest, base, strict=True)]),
            words=words,
            compression=compression,
            novelty=novelty,
            repetition=repetition,
            sentiment_agreement=self._agreement(candidate),
        )

    def _scores(self, candidate: Candidate, product: str) -> RougeScores:
        references = self.references[product]
        texts = candidate.texts[product]
        found = [
            self.rouge.scores(
                (*references[:place], *references[place + 1 :])
                if candidate.leaves_itself_out
                else references,
                text,
            )
            for place, text in enumerate(texts)
        ]
        return RougeScores(*map(statistics.fmean, zip(*found, strict=True)))

    def _measures(self, candidate: Candidate, product: str) -> TextMeasures:
        reviews = self.reviews[product].reviews
        found = [measure_text(text, reviews) for text in candidate.texts[product]]
        return TextMeasures(*map(statistics.fmean, zip(*found, strict=True)))

    def _agreement(self, candidate: Candidate) -> float | None:
        """Of people, the mean over the first, second, ... text of each product."""
        if self.sentiment is None:
            return None
        ratings = [self.reviews[product].rating for product in self.references]
        by_writer = zip(*(candidate.texts[product] for product in self.references), strict=False)
        found = [self.sentiment.agreement(texts, ratings) for texts in by_writer]
        known = [agreement for agreement in found if agreement is not None]
        return statistics.fmean(known) if known else None
