from __future__ import annotations

import re
import unicodedata

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.reviews.fields import cleaned


def clean(text: str) -> str:
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    result: str = frame.select(cleaned(pl.col("text"))).item()
    return result


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Keeps CASE, and: punctuation!?", "Keeps CASE, and: punctuation!?"),
        ("one<br />two<BR>three", "one two three"),
        ('see <a href="http://x.y/z?a=1">this</a> one', "see this one"),
        ("a <!-- hidden\nremark --> b", "a b"),
        ("I <3 it, a < b and c > d", "I <3 it, a < b and c > d"),
        ("go to https://example.com/x?y=1&z=2 now", "go to now"),
        ("at www.example.com, really", "at really"),
        ("Tom &amp; Jerry &quot;x&quot; &#39;y&#x27;", "Tom & Jerry \"x\" 'y'"),
        ("twice &amp;quot;escaped&amp;quot;", 'twice "escaped"'),
        ("&lt;b&gt;bold&lt;/b&gt; text", "bold text"),
        ("tabs\tand\nlines\r\nand\x00nul\x07bell", "tabs and lines and nul bell"),
        ("zero\u200bwidth \ufeffmark soft\u00adhyphen", "zerowidth mark softhyphen"),
        ("  much   space\u00a0here\u3000 ", "much space here"),
        ("family 👨\u200d👩\u200d👧 stays", "family 👨\u200d👩\u200d👧 stays"),
        ("電池の持ちが良い。", "電池の持ちが良い。"),
        ("", ""),
    ],
)
def test_text_is_cleaned(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text())
def test_nothing_is_left_that_should_be_gone(text: str) -> None:
    result = clean(text)
    assert result == result.strip()
    assert "  " not in result
    assert not any(unicodedata.category(character) == "Cc" for character in result)
    assert re.search(r"<[A-Za-z/][^<>]*>", result) is None


@given(st.text(st.characters(exclude_characters="&<>", exclude_categories=["Cs"])))
def test_clean_text_stays_as_it_is(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


def test_null_stays_null() -> None:
    frame = pl.DataFrame({"text": [None]}, schema={"text": pl.String})
    assert frame.select(cleaned(pl.col("text"))).item() is None


@pytest.mark.parametrize(
    "text", ["<" * 1_000_000, "<!--" * 250_000, "&" * 1_000_000, "<a " * 300_000]
)
def test_hostile_text_costs_linear_time(text: str) -> None:
    # Quadratic time would take hours here.
    assert len(clean(text)) <= len(text)
