"""What a summary shows without any reference: how short it is, how new, how repetitive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reviewsum_assets.evaluation.rouge import words_of

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
