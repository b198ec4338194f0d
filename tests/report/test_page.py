"""The report as readers see it: a real browser, with no network and no server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from reviewsum_assets.report.writer import write_report
from reviewsum_assets.storage.lake import Lake
from tests.report.support import QUOTE, Product, put_tables, row
from tests.support.browser import chromium
from tests.support.hostile import TEXTS

# Chromium is installed for drills only.
pytestmark = pytest.mark.drill

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "</script><img src=x onerror=\"document.title = 'taken'\">",
    "<!-- <script> ]]> &lt;b&gt; &amp;",
    "javascript:alert(1)",
    "\u202eright to left\u202c שלום עולם",
    "👨\u200d👩\u200d👧 \U0010ffff",
    "a\0b\x1b[31m\x7f",
    # A line ends a sentence of a summary.
    *(text for text in TEXTS if "\n" not in text),
)
# What the page shows in place of control characters.
SYMBOLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)} | {127: 0x2421}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@contextmanager
def opened(browser: Browser, lake: Lake, fragment: str = "", **options: Any) -> Iterator[Page]:
    """The written page in a window without a network; no script or policy may fail."""
    path = Path(lake.uri).parent / "report.html"
    write_report(lake, most=1_000, output=path)
    with browser.new_context(offline=True, **options) as context:
        page = context.new_page()
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda message: failures.append(message.text))
        page.on("dialog", lambda dialog: failures.append(dialog.message))
        page.goto(f"{path.as_uri()}{fragment}")
        page.locator("html[data-state=ready]").wait_for()
        yield page
        assert failures == []


def products(count: int) -> list[Product]:
    """Products with fewer and fewer reviews; those with an even number have no bad sentence."""
    return [
        Product(
            f"B{n:03d}",
            f"It lasts {n} days. It is red.",
            [row(f"It lasts {n} days."), row("It is red.", supported=n % 2 == 0)],
            reviews=1_000 - n,
            facts={"mean_stars": 1 + n % 5 * 0.9},
        )
        for n in range(count)
    ]


def ids(page: Page) -> list[str]:
    return page.locator(".id").all_text_contents()


def test_a_reader_searches_sorts_filters_and_turns_pages(browser: Browser, lake: Lake) -> None:
    put_tables(lake, products(60))
    with opened(browser, lake) as page:
        status = page.locator("#status")
        expect(status).to_have_text("Products 1 to 25 of 60")
        assert ids(page) == [f"B{n:03d}" for n in range(25)]
        page.get_by_role("button", name="Next").click()
        assert ids(page)[0] == "B025"
        page.get_by_role("button", name="Last").click()
        assert ids(page) == [f"B{n:03d}" for n in range(50, 60)]
        expect(page.get_by_role("button", name="Next")).to_be_disabled()
        page.get_by_label("Order").select_option("lowest stars")
        expect(page.locator("#page")).to_have_text("Page 1 of 3")
        assert ids(page)[:2] == ["B000", "B005"]
        page.get_by_label("Order").select_option("highest stars")
        assert ids(page)[:2] == ["B004", "B009"]
        page.get_by_label("Order").select_option("most unsupported")
        assert ids(page)[:2] == ["B001", "B003"]
        page.get_by_label("only with an unsupported sentence").check()
        expect(status).to_have_text("Products 1 to 25 of 30")
        page.get_by_label("Search").fill("RED b01")
        expect(status).to_have_text("Products 1 to 5 of 5")
        page.get_by_label("Search").fill("lasts 47 days")
        expect(status).to_have_text("Products 1 to 1 of 1")
        page.get_by_label("Search").fill("no such text")
        expect(status).to_have_text("No product matches.")
        assert ids(page) == []


def test_a_reader_opens_a_product_and_the_quotes_of_a_sentence_by_keyboard(
    browser: Browser, lake: Lake
) -> None:
    put_tables(lake, products(3))
    with opened(browser, lake) as page:
        page.keyboard.press("/")
        page.keyboard.type("b001")
        expect(page.locator("#status")).to_have_text("Products 1 to 1 of 1")
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        sentences = page.locator(".sentence")
        expect(sentences).to_have_count(2)
        expect(sentences.nth(0)).to_contain_text("✓ Supported: 12 of 60 reviews in favour")
        expect(sentences.nth(1)).to_contain_text("✗ Not supported: 0 of 60 reviews in favour")
        expect(page.locator(".flag")).to_have_text("✗ 1 of 2 sentences not supported")
        quote = sentences.nth(0).locator("blockquote")
        expect(quote).not_to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(quote).to_be_visible()
        expect(quote).to_contain_text(str(QUOTE["quote"]))
        expect(quote).to_contain_text("4 ★ · 2018-09-13 · 9 helpful votes · review line 4")
        assert bars(page) == pytest.approx([100, 60, 20, 20 / 3, 40 / 3], abs=0.01)
        shown = page.locator("dl").inner_text().split("\n")
        facts = dict(zip(shown[::2], shown[1::2], strict=True))
        assert facts == {
            "reviews": "999",
            "mean": "1.90 ★",
            "critical (below 3)": "10 %",
            "verified purchases": "90 %",
            "oldest": "2014-02-16",
            "newest": "2018-09-13",
            "read by the model": "21 of 999",
        }
        own_words = page.locator("section", has_text="In the customers' own words")
        expect(own_words).to_contain_text("The sound is rich.5 ★ · review line 7")


def bars(page: Page) -> list[float]:
    styles = [bar.get_attribute("style") or "" for bar in page.locator(".bar").all()]
    return [float(found[1]) for style in styles if (found := re.search(r"([\d.]+)%", style))]


def test_a_link_shows_its_product(browser: Browser, lake: Lake) -> None:
    put_tables(lake, products(60))
    with opened(browser, lake, "#B050") as page:
        assert ids(page) == ["B050"]
    with opened(browser, lake, "#%zz") as page:
        assert len(ids(page)) == 25


def test_hostile_texts_are_shown_as_texts(browser: Browser, lake: Lake) -> None:
    texts = [f"{n} {text}|" for n, text in enumerate(HOSTILE)]
    put_tables(
        lake,
        [
            Product(
                text,
                text,
                [row(text, quotes=[{**QUOTE, "quote": text}])],
                reviews=len(texts) - n,
                facts={"highlights": [{"sentence": text, "review": 0, "stars": None}]},
            )
            for n, text in enumerate(texts)
        ],
    )
    expected = [text.translate(SYMBOLS) for text in texts]
    with opened(browser, lake) as page:
        title = page.title()
        for start in range(0, len(texts), 25):
            shown = expected[start : start + 25]
            assert ids(page) == [beginning(text, 200) for text in shown]
            excerpts = page.locator(".excerpt").all_text_contents()
            assert excerpts == [beginning(text, 400) for text in shown]
            open_all(page, ".product", len(shown))
            assert page.locator(".sentence > summary > :first-child").all_text_contents() == shown
            assert page.locator(".sentence blockquote > p").all_text_contents() == shown
            assert page.locator("section > blockquote > p").all_text_contents() == shown
            assert page.locator(".product :not([dir=auto]):is(.id, .excerpt, p)").count() == 0
            page.get_by_role("button", name="Next").click(force=True)
        assert page.locator("img, iframe, a, b").count() == 0
        assert page.locator("script:not([type])").count() == 1
        assert page.title() == title


def beginning(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]} …"


def open_all(page: Page, selector: str, count: int) -> None:
    page.locator(selector).evaluate_all("all => all.forEach(one => { one.open = true; })")
    expect(page.locator("dl")).to_have_count(count)


def test_a_text_of_a_megabyte_does_not_break_the_layout(browser: Browser, lake: Lake) -> None:
    text = "x" * 1_000_000
    put_tables(lake, [Product(text, text, [row(text)]), Product("B2", "Good.", reviews=1)])
    with opened(browser, lake, viewport={"width": 390, "height": 844}) as page:
        assert page.locator(".excerpt").first.text_content() == f"{'x' * 400} …"
        page.locator(".product > summary").first.click()
        sentence = page.locator(".sentence > summary > span").first
        assert len(sentence.text_content() or "") == 1_000_000
        assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_and_follows_the_colours_of_the_system(
    browser: Browser, lake: Lake, width: int, scheme: str
) -> None:
    put_tables(lake, products(30))
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with opened(browser, lake, **options) as page:
        page.locator(".product > summary").nth(1).click()
        page.locator("dl").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
        assert (brightness > 127) is (scheme == "light")
