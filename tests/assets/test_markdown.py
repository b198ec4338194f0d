from __future__ import annotations

import pytest

from reviewsum_assets.assets import markdown
from reviewsum_assets.assets.charts import Bar, bar_chart


@pytest.mark.parametrize(("characters", "rows"), [(10, 5), (300, 3), (2000, 1)])
def test_a_preview_holds_what_the_ui_shows_without_a_click(characters: int, rows: int) -> None:
    text = str(markdown.preview(["product", "summary"], [("P1", "x" * characters)] * 5).value)
    assert len(text.splitlines()) == 2 + rows
    assert len(text) < markdown.SHOWN_CHARS or rows == 1


def test_a_chart_of_the_most_bars_is_shown_without_a_click() -> None:
    bars = [Bar(f"{n}00 to {n}99", 10.0**n, f"{10**n:,}", 10.0**12) for n in range(12)]
    text = str(bar_chart("words", "summaries", bars).value)
    assert len(text) < markdown.SHOWN_CHARS
    assert text.count("█") >= 12, "what there is is seen, however little"
