"""Cleans review text: what a model should read, with case and punctuation kept."""

from __future__ import annotations

import html

import polars as pl

# polars' regular expressions run in linear time whatever the text. "<3" and "a < b" are no tags.
_COMMENT = r"(?s)<!--.*?-->"
_TAG = r"</?[A-Za-z][^<>]*>"
_URL = r"(?i)\b(?:https?://|www\.)[^\s<>\"]+"
# Control characters separate words; format characters are invisible and join nothing, except the
# two joiners that emoji and some scripts are made with.
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]+"
_INVISIBLE = r"[\p{Cf}&&[^\u{200C}\u{200D}]]+"


def cleaned(text: pl.Expr) -> pl.Expr:
    """Without entities, HTML, URLs, control characters and excess white space; one line."""
    return (
        _unescaped(text)
        .str.replace_all(_COMMENT, " ")
        .str.replace_all(_TAG, " ")
        .str.replace_all(_URL, " ")
        .str.replace_all(_CONTROL, " ")
        .str.replace_all(_INVISIBLE, "")
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
    )


def _unescaped(text: pl.Expr) -> pl.Expr:
    """Entities as the characters they stand for; those escaped twice too, as dumps have them."""
    return (
        pl.when(text.str.contains("&", literal=True))
        .then(text.map_batches(_unescape_where_needed, return_dtype=pl.String))
        .otherwise(text)
    )


def _unescape_where_needed(texts: pl.Series) -> pl.Series:
    return pl.Series(
        texts.name,
        [
            html.unescape(html.unescape(text)) if text is not None and "&" in text else text
            for text in texts
        ],
        dtype=pl.String,
    )
