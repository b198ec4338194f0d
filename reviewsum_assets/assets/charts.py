"""Bar charts in the asset pages: tables whose bars are characters, so that they show at once.

A picture would be longer than what the UI shows without a click, see ``markdown``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from reviewsum_assets.assets import markdown

_CELLS = 20
_FILLED, _REST = "█", "░"


@dataclass(frozen=True)
class Bar:
    """One row: ``value`` of ``whole`` is filled, or all of it if there is no whole."""

    label: str
    value: float
    text: str
    whole: float | None = None


def bar_chart(labels: str, values: str, bars: Sequence[Bar]) -> dg.MarkdownMetadataValue:
    """A chart of horizontal bars; ``labels`` and ``values`` say what they are of."""
    largest = max((bar.whole or bar.value for bar in bars), default=0.0) or 1.0
    rows = ((bar.label, _drawn(bar, _CELLS / largest), bar.text) for bar in bars)
    return markdown.table([labels, values, ""], rows)


def _drawn(bar: Bar, scale: float) -> str:
    filled = _cells(bar.value * scale)
    return _FILLED * filled + _REST * (_cells((bar.whole or 0.0) * scale) - filled)


def _cells(length: float) -> int:
    """Rounded, but what there is is seen."""
    return max(1, round(length)) if length > 0 else 0
