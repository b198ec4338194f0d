"""Cleans review text: what a model should read, with case and punctuation kept."""

from __future__ import annotations

import html
import re

import polars as pl

# polars' regular expressions run in linear time whatever the text. "<3" and "a < b" are no tags.
_COMMENT = r"(?s)<!--.*?-->"
_TAG = r"</?[A-Za-z][^<>]*>"
_URL = r"(?i)\b(?:https?://|www\.)[^\s<>\"]+"
# Format characters are invisible and join nothing, except the two joiners that emoji and some
# scripts are made with.
_INVISIBLE = r"[\p{Cf}&&[^\u{200C}\u{200D}]]+"
# Control characters separate words as white space does. The single spaces that most text has
# between words are passed over: to replace them by themselves costs more than all other rules.
_UNEVEN_SPACE = r"[\s\p{Cc}\p{Zl}\p{Zp}]{2,}|[[\s\p{Cc}\p{Zl}\p{Zp}]&&[^ ]]"
_ENDLESS_NUMBER = re.compile(r"&#\d{100,};?")


def cleaned(text: pl.Expr) -> pl.Expr:
    """Without entities, HTML, URLs, control characters and excess white space; one line."""
    return (
        _unescaped(text)
        # First of all: they could hide a tag, or a token that means something to the model.
        .str.replace_all(_INVISIBLE, "")
        .str.replace_all(_COMMENT, " ")
        .str.replace_all(_TAG, " ")
        .str.replace_all(_URL, " ")
        .str.replace_all(_UNEVEN_SPACE, " ")
        .str.strip_chars()
    )


def _unescaped(text: pl.Expr) -> pl.Expr:
    """Entities as the characters they stand for; those escaped twice too, as dumps have them."""
    return text.map_batches(_unescape_where_needed, return_dtype=pl.String)


def _unescape_where_needed(texts: pl.Series) -> pl.Series:
    places = texts.str.contains("&", literal=True).arg_true()
    if places.is_empty():
        return texts
    changed: pl.Series = texts.clone()
    changed.scatter(places, [_unescape(_unescape(text)) for text in texts.gather(places)])
    return changed


def _unescape(text: str) -> str:
    # Python refuses to read a number of thousands of digits, which is no character anyway.
    return html.unescape(_ENDLESS_NUMBER.sub("\ufffd", text))
