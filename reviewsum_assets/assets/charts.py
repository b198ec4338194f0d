"""Bar charts in the asset pages: a picture in Markdown, which the UI shows as it is."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import dagster as dg

_LABEL_WIDTH, _BAR_WIDTH, _TEXT_WIDTH = 110, 300, 150
_ROW, _BAR, _TOP = 24, 14, 40
_WIDTH = _LABEL_WIDTH + _BAR_WIDTH + _TEXT_WIDTH
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'


@dataclass(frozen=True)
class Bar:
    """One row: ``value`` of ``whole`` is filled, or all of it if there is no whole."""

    label: str
    value: float
    text: str
    whole: float | None = None


def bar_chart(title: str, bars: Sequence[Bar]) -> dg.MarkdownMetadataValue:
    """A chart of horizontal bars on a background of its own, so that it suits every theme."""
    largest = max((bar.whole or bar.value for bar in bars), default=0.0) or 1.0
    height = _TOP + _ROW * len(bars) + 10
    rows = "".join(
        _row(bar, _TOP + _ROW * number, _BAR_WIDTH / largest) for number, bar in enumerate(bars)
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" {_FONT}>'
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#ffffff"/>'
        f'<text x="12" y="24" font-size="13" font-weight="600" fill="#1f2937">'
        f"{escape(title)}</text>"
        f"{rows}</svg>"
    )
    picture = base64.b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{picture})")


def _row(bar: Bar, top: int, scale: float) -> str:
    middle = top + _BAR - 3
    whole = "" if bar.whole is None else _rectangle(top, bar.whole * scale, "#d6dae1")
    return (
        f'<text x="{_LABEL_WIDTH - 8}" y="{middle}" text-anchor="end" fill="#4b5563">'
        f"{escape(bar.label)}</text>{whole}{_rectangle(top, bar.value * scale, '#4f6bed')}"
        f'<text x="{_LABEL_WIDTH + (bar.whole or bar.value) * scale + 8:.1f}" y="{middle}" '
        f'fill="#4b5563">{escape(bar.text)}</text>'
    )


def _rectangle(top: int, width: float, colour: str) -> str:
    return (
        f'<rect x="{_LABEL_WIDTH}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2" '
        f'fill="{colour}"/>'
    )
