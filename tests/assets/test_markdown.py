from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from reviewsum_assets.assets import markdown
from reviewsum_assets.assets.charts import Bar, bar_chart

RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table")


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "[look](http://example.com)",
        "![look](http://example.com/seen.png)",
        "<http://example.com>",
        "`code`",
        "**bold** _too_",
        "a | b",
        "a\\",
        "line\n\n# heading",
    ],
)
def test_what_dumps_bring_is_shown_on_a_page_as_it_is(name: str) -> None:
    page = RENDERER.render(markdown.table(["product_id", "n"], [(name, "1")]).value or "")
    shown = page.partition("<tbody>")[2].replace("&lt;", "<").replace("&gt;", ">")
    assert f"<td>{' '.join(name.split())}</td>\n<td>1</td>" in shown
    assert page.count("<") == RENDERER.render("| a | b |\n| - | - |\n| c | d |").count("<")


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
