from __future__ import annotations

import re
import unicodedata

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.reviews.fields import cleaned
from tests.support.hostile import examples

SPECIAL_TOKENS = ("<pad>", "</s>", "<s>", "<n>", "<unk_7>", "<mask_1>")


def clean(text: str | None) -> str:
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
        (f"&#{'1' * 10_000}; &amp;#{'1' * 10_000}; sound", "\ufffd \ufffd sound"),
        ("", ""),
        (None, None),
    ],
)
def test_text_is_cleaned(raw: str | None, expected: str | None) -> None:
    assert clean(raw) == expected


@given(st.text())
def test_no_control_character_tag_or_excess_space_remains(text: str) -> None:
    result = clean(text)
    assert result == result.strip()
    assert "  " not in result
    assert not any(unicodedata.category(character) == "Cc" for character in result)
    assert re.search(r"<[A-Za-z/][^<>]*>", result) is None


@given(st.text(st.characters(exclude_characters="&<>", exclude_categories=["Cs"])))
def test_clean_text_stays_unchanged(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


@pytest.mark.parametrize(
    "text", ["<" * 1_000_000, "<!--" * 250_000, "&" * 1_000_000, "<a " * 300_000]
)
def test_hostile_text_costs_linear_time(text: str) -> None:
    # Quadratic time would take hours.
    assert len(clean(text)) <= len(text)


invisible = st.sampled_from(["", "\u200b", "\ufeff", "\u00ad", "\u2060", "\u202e", "&#8203;"])


@given(
    st.sampled_from(SPECIAL_TOKENS), st.lists(invisible, min_size=10, max_size=10), st.booleans()
)
@examples(0.5)
def test_hostile_text_cannot_contain_a_special_token_of_the_model(
    token: str, between: list[str], is_escaped: bool
) -> None:
    hidden = "".join(map("".join, zip(between, token, strict=False)))
    if is_escaped:
        hidden = hidden.replace("<", "&lt;").replace(">", "&amp;gt;")
    assert clean(f"good {hidden} sound") == "good sound"
