"""Which product ids are taken: from which field of a row, and what they must not hold.

An id is never changed but for white space around it, so ids that only look alike stay apart. What
could not come back from a CSV as it went in, or not be told apart on a screen, is refused.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import polars as pl

# The first that is not blank counts: variants of a product are reviewed as one.
PRODUCT_ID = ("parent_asin", "product_id", "asin")
MOST_CHARS = 256

# Characters that control a terminal or end a line.
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]"


def product_id(columns: Sequence[str]) -> pl.Expr:
    """A row's product id, null where it has none.

    Args:
        columns: string columns that are there, at least one of ``PRODUCT_ID`` among them.
    """
    ids = [pl.col(name).str.strip_chars() for name in PRODUCT_ID if name in columns]
    return pl.coalesce([pl.when(found != "").then(found) for found in ids])


def what_is_wrong(product: pl.Expr) -> pl.Expr:
    """Why a product id is not taken, null where it is."""
    return (
        pl.when(product.is_null())
        .then(pl.lit("no product id"))
        .when(product.str.contains(_CONTROL))
        .then(pl.lit("the product id has control characters or line ends"))
        .when(product.str.len_chars() > MOST_CHARS)
        .then(pl.lit(f"the product id has more than {MOST_CHARS} characters"))
    )


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


# Raw field names by meaning, the first that is there and not null counts. They are those of the
# Amazon Reviews sets of 2014, 2018 and 2023, of the AWS review set, and obvious others.
TEXT = ("reviewText", "review_body", "review_text", "text")
REVIEWER_ID = ("reviewerID", "user_id", "customer_id", "reviewer_id")
TITLE = ("summary", "review_headline", "review_title", "user_summary", "title")
RATING = ("overall", "star_rating", "rating")
HELPFUL_VOTES = ("vote", "helpful_vote", "helpful_votes", "helpful")
STYLE = ("style",)
TIME = ("unixReviewTime", "timestamp", "review_date", "reviewTime")

RAW_FIELDS = (
    *PRODUCT_ID,
    *TEXT,
    *REVIEWER_ID,
    *TITLE,
    *RATING,
    *HELPFUL_VOTES,
    *STYLE,
    *TIME,
)

REVIEW_SCHEMA = pl.Schema(
    {
        "product_id": pl.String,
        "reviewer_id": pl.String,
        "text": pl.String,
        "title": pl.String,
        "rating": pl.Float64,
        "helpful_votes": pl.Int64,
        "style": pl.String,
        "timestamp": pl.Int64,  # seconds since 1970, UTC
    }
)

# A Unix time above this is in milliseconds: in seconds it would lie beyond the year 5000.
_MILLISECONDS_FROM = 100_000_000_000
_SECONDS_TO_YEAR_10000 = 253_402_300_800
# More is no count, and sums of such numbers would overflow.
MOST_COUNTED = 1_000_000_000


def normalized(raw: pl.DataFrame) -> pl.DataFrame:
    """Reviews in ``REVIEW_SCHEMA``, cleaned; rows keep their order.

    Args:
        raw: string columns, some of ``RAW_FIELDS``; other columns are dropped.

    A field that cannot be understood, such as a rating of "five", becomes null.
    """

    def first_of(fields: Sequence[str]) -> pl.Expr:
        present = [pl.col(field) for field in fields if field in raw.columns]
        return pl.coalesce(present) if present else pl.repeat(None, pl.len(), dtype=pl.String)

    return raw.select(
        product_id=product_id(raw.columns),
        reviewer_id=first_of(REVIEWER_ID).str.strip_chars(),
        text=cleaned(first_of(TEXT).fill_null("")),
        title=cleaned(first_of(TITLE).fill_null("")),
        rating=finite(first_of(RATING).str.strip_chars()),
        helpful_votes=_votes(first_of(HELPFUL_VOTES)),
        style=_style(first_of(STYLE)),
        timestamp=_timestamp(first_of(TIME)),
    )


def finite(text: pl.Expr) -> pl.Expr:
    """A number; null for what is none, or infinite."""
    number = text.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _votes(field: pl.Expr) -> pl.Expr:
    """``"1,024"``, ``12`` or, from 2014, ``[2, 3]``: 2 of 3 found it helpful."""
    of_two = field.str.extract(r"^\s*\[\s*(\d+)")
    plain = field.str.extract(r"^\s*(\d[\d,]*)").str.replace_all(",", "", literal=True)
    votes = pl.coalesce(of_two, plain).cast(pl.Int64, strict=False)
    return pl.when(votes <= MOST_COUNTED).then(votes).otherwise(0)


def _style(field: pl.Expr) -> pl.Expr:
    """``{"Color:": " Black"}`` as ``Color: Black``."""
    return field.map_batches(_rendered_styles, return_dtype=pl.String)


def _rendered_styles(field: pl.Series) -> pl.Series:
    """Each different style rendered once: few of them make up a dump."""
    rendered = (
        pl.col("raw")
        .str.replace_all(r'[{}"]', "")
        .str.replace_all(r"\s*:[\s:]*", ": ")
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
    )
    raw = pl.DataFrame({"raw": field})
    styles = raw.unique().with_columns(style=pl.when(rendered != "").then(rendered))
    return raw.join(styles, on="raw", how="left", maintain_order="left", nulls_equal=True)["style"]


def _timestamp(field: pl.Expr) -> pl.Expr:
    """Seconds from a Unix time in seconds or milliseconds, ``2017-09-13`` or ``09 13, 2017``."""
    number = field.str.strip_chars().cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    seconds = (
        pl.when(number.abs() >= _MILLISECONDS_FROM).then(number.floordiv(1000)).otherwise(number)
    )
    dates = [
        field.str.strip_chars().str.to_date(form, strict=False).dt.epoch("s")
        for form in ("%Y-%m-%d", "%m %d, %Y")
    ]
    found = pl.coalesce(seconds, *dates)
    return pl.when(found.abs() < _SECONDS_TO_YEAR_10000).then(found)
