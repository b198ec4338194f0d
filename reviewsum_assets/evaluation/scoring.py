"""Scores systems on the same products: means with intervals, and differences to one of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reviewsum_assets.evaluation.bootstrap import Bootstrap
from reviewsum_assets.evaluation.candidates import Candidate
from reviewsum_assets.evaluation.product_reviews import ProductReviews
from reviewsum_assets.evaluation.references import References
from reviewsum_assets.evaluation.result import SystemResult
from reviewsum_assets.evaluation.rouge import Rouge, RougeScores
from reviewsum_assets.evaluation.sentiment import Sentiment
from reviewsum_assets.evaluation.text_measures import TextMeasures, measure_text


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
