from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from reviewsum_assets.assets import display

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
def test_text_of_dumps_is_shown_literally_on_a_page(name: str) -> None:
    page = RENDERER.render(display.table(["product_id", "n"], [(name, "1")]).value or "")
    shown = page.partition("<tbody>")[2].replace("&lt;", "<").replace("&gt;", ">")
    assert f"<td>{' '.join(name.split())}</td>\n<td>1</td>" in shown
    assert page.count("<") == RENDERER.render("| a | b |\n| - | - |\n| c | d |").count("<")


@pytest.mark.parametrize(("characters", "rows"), [(10, 5), (300, 3), (2000, 1)])
def test_a_preview_holds_what_the_ui_shows_without_a_click(characters: int, rows: int) -> None:
    text = str(display.preview(["product", "summary"], [("P1", "x" * characters)] * 5).value)
    assert len(text.splitlines()) == 2 + rows
    assert len(text) < display.SHOWN_CHARS or rows == 1
