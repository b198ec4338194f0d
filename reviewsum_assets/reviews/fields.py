"""Fields of a review: their names in dumps, valid product ids, and cleaning of text.

A product id is never changed except for surrounding white space, so that similar ids stay apart. An
id that a CSV would not preserve, or that a screen would not show, is refused.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import polars as pl

# Field names of each property; the first one with a value counts. They come from the Amazon Reviews
# sets of 2014, 2018 and 2023, the AWS review set, and other plain names. Variants of a product
# are reviewed as one, under their parent.
PRODUCT_ID = ("parent_asin", "product_id", "asin")
TEXT = ("reviewText", "review_body", "review_text", "text")
REVIEWER_ID = ("reviewerID", "user_id", "customer_id", "reviewer_id")
TITLE = ("summary", "review_headline", "review_title", "user_summary", "title")
RATING = ("overall", "star_rating", "rating")
HELPFUL_VOTES = ("vote", "helpful_vote", "helpful_votes", "helpful")
STYLE = ("style",)
TIME = ("unixReviewTime", "timestamp", "review_date", "reviewTime")
RAW_FIELDS = PRODUCT_ID + TEXT + REVIEWER_ID + TITLE + RATING + HELPFUL_VOTES + STYLE + TIME

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

GROUPED_SCHEMA = pl.Schema(
    {
        "product_id": pl.String(),
        "all_reviews": pl.String(),
        "all_user_summaries": pl.String(),
        "avg_rating": pl.Float64(),
        "review_count": pl.Int64(),
        "total_helpful_votes": pl.Int64(),
        "dominant_style": pl.String(),
        "oldest_review_timestamp": pl.Int64(),
        "newest_review_timestamp": pl.Int64(),
        # Stars of each line of all_reviews; null where one line holds all reviews.
        "review_ratings": pl.List(pl.Float32),
        # Position of each line from the oldest to the newest, from 0; null as above.
        "review_places": pl.List(pl.Int32),
    }
)
MEANINGFUL = frozenset((*RAW_FIELDS, *GROUPED_SCHEMA))

MOST_ID_CHARS = 256
# Larger counts are errors, and their sums would overflow.
MOST_COUNTED = 1_000_000_000
# Characters that control a terminal or end a line.
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]"


def product_id(columns: Sequence[str]) -> pl.Expr:
    """Product id of a row, null where it is blank.

    Args:
        columns: string columns, at least one of ``PRODUCT_ID`` among them.
    """
    ids = [pl.col(name).str.strip_chars() for name in PRODUCT_ID if name in columns]
    return pl.coalesce([pl.when(found != "").then(found) for found in ids])


def id_problem(product: pl.Expr) -> pl.Expr:
    """Reason why a product id is refused, null where it is valid."""
    return (
        pl.when(product.is_null())
        .then(pl.lit("no product id"))
        .when(product.str.contains(_CONTROL))
        .then(pl.lit("the product id has control characters or line ends"))
        .when(product.str.len_chars() > MOST_ID_CHARS)
        .then(pl.lit(f"the product id has more than {MOST_ID_CHARS} characters"))
    )


# polars' regular expressions run in linear time whatever the text. "<3" and "a < b" are no tags.
_COMMENT = r"(?s)<!--.*?-->"
_TAG = r"</?[A-Za-z][^<>]*>"
_URL = r"(?i)\b(?:https?://|www\.)[^\s<>\"]+"
# Format characters are invisible; only the two joiners of emoji and some scripts have a meaning.
_INVISIBLE = r"[\p{Cf}&&[^\u{200C}\u{200D}]]+"
# Control characters separate words as white space does. Single spaces do not match: replacing each
# by a space would cost more than all other rules.
_UNEVEN_SPACE = r"[\s\p{Cc}\p{Zl}\p{Zp}]{2,}|[[\s\p{Cc}\p{Zl}\p{Zp}]&&[^ ]]"
_ENDLESS_NUMBER = re.compile(r"&#\d{100,};?")


def cleaned(text: pl.Expr) -> pl.Expr:
    """One line of text without entities, HTML, URLs, control characters and excess white space."""
    return (
        text.map_batches(_unescaped, return_dtype=pl.String)
        # First, because they could hide a tag or a special token of the model.
        .str.replace_all(_INVISIBLE, "")
        .str.replace_all(_COMMENT, " ")
        .str.replace_all(_TAG, " ")
        .str.replace_all(_URL, " ")
        .str.replace_all(_UNEVEN_SPACE, " ")
        .str.strip_chars()
    )


def _unescaped(texts: pl.Series) -> pl.Series:
    """Replace entities, also those that were escaped twice, as in published dumps."""
    places = texts.str.contains("&", literal=True).arg_true()
    if places.is_empty():
        return texts
    changed: pl.Series = texts.clone()
    changed.scatter(places, [_unescape(_unescape(text)) for text in texts.gather(places)])
    return changed


def _unescape(text: str) -> str:
    # Python refuses to convert thousands of digits, which are no character anyway.
    return html.unescape(_ENDLESS_NUMBER.sub("\ufffd", text))


# A Unix time above this is in milliseconds: in seconds it would lie beyond the year 5000.
_MILLISECONDS_FROM = 100_000_000_000
_SECONDS_TO_YEAR_10000 = 253_402_300_800


def normalized(raw: pl.DataFrame) -> pl.DataFrame:
    """Return cleaned reviews in ``REVIEW_SCHEMA``, in the same order.

    A field that cannot be parsed, such as a rating of "five", becomes null.

    Args:
        raw: string columns, some of ``RAW_FIELDS``; other columns are dropped.
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
        style=first_of(STYLE).map_batches(_styles, return_dtype=pl.String),
        timestamp=_timestamp(first_of(TIME)),
    )


def finite(text: pl.Expr) -> pl.Expr:
    """Text as a finite number, else null."""
    number = text.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _votes(field: pl.Expr) -> pl.Expr:
    """``"1,024"``, ``12`` or, from 2014, ``[2, 3]``: 2 of 3 found it helpful."""
    of_two = field.str.extract(r"^\s*\[\s*(\d+)")
    plain = field.str.extract(r"^\s*(\d[\d,]*)").str.replace_all(",", "", literal=True)
    votes = pl.coalesce(of_two, plain).cast(pl.Int64, strict=False)
    return pl.when(votes <= MOST_COUNTED).then(votes).otherwise(0)


def _styles(field: pl.Series) -> pl.Series:
    """``{"Color:": " Black"}`` as ``Color: Black``; each distinct style is rendered once."""
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
