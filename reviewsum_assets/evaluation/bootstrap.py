"""How far a mean over products may be off: percentile bootstrap, always with the same resamples.

Since every system is resampled at the same products, intervals of differences are those of a
paired comparison (Koehn 2004, "Statistical Significance Tests for Machine Translation
Evaluation"): they can be narrow where those of both systems are wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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
