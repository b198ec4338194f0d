"""Whether summaries are as favourable as the stars of their products.

A summary's sentiment is VADER's (Hutto and Gilbert 2014; a lexicon of English words and a few
rules, https://github.com/cjhutto/vaderSentiment). Its agreement with the stars is Spearman's rank
correlation over products: 1 where summaries of better-rated products are always more favourable,
0 where the stars cannot be guessed from them. What people reach is the bound to hold it against.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import polars as pl

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
