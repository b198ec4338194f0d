"""Fields of a review: their names in dumps, valid product ids, and cleaning of text.

A product id is never changed except for surrounding white space, so that similar ids stay apart. An
id that a CSV would not preserve, or that a screen would not show, is refused.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from reviewsum_assets.reviews.values import (
    Reading,
    absent_as_null,
    as_flags,
    as_ratings,
    as_seconds,
    as_votes,
    read_with,
)
from reviewsum_assets.settings import ReviewField

# Names in the Amazon Reviews sets of 2014, 2018 and 2023 and the AWS review set.
_AMAZON: Mapping[ReviewField, tuple[str, ...]] = {
    "product_id": ("parent_asin", "product_id", "asin"),
    "review_text": ("reviewText", "review_body", "review_text", "text"),
    "reviewer_id": ("reviewerID", "user_id", "customer_id", "reviewer_id"),
    "review_title": ("summary", "review_headline", "review_title", "user_summary", "title"),
    "rating": ("overall", "star_rating", "rating"),
    "helpful_votes": ("vote", "helpful_vote", "helpful_votes", "helpful"),
    "style": ("style",),
    "review_date": ("unixReviewTime", "timestamp", "review_date", "reviewTime"),
    "verified_purchase": ("verified", "verified_purchase"),
}
# Names in other published dumps and exports of shops.
_OTHERS: Mapping[ReviewField, tuple[str, ...]] = {
    "product_id": (
        *("asins", "business_id", "gmap_id", "book_id", "app_id", "clothing_id", "beer_beerid"),
        *("sku", "product_handle", "handle"),
    ),
    "review_text": ("reviews.text", "review_content", "review", "content", "body"),
    # A name stands in where there is no id.
    "reviewer_id": (
        *("author_id", "reviews.username", "reviewerName", "review_profilename", "user_name"),
        *("user_nickname", "profile_name", "author"),
    ),
    "review_title": ("reviews.title", "headline"),
    "rating": (
        *("stars", "star", "score", "reviews.rating", "review_rating", "review_overall"),
        "overall_rating",
    ),
    "helpful_votes": (
        *("helpfulness_numerator", "reviews.numHelpful", "useful", "thumbsUpCount", "n_votes"),
        *("positive_feedback_count", "total_pos_feedback_count", "total_positive_feedback_count"),
        *("useful_count", "votes_up", "thumbs_up", "helpful_yes", "like_count"),
    ),
    "review_date": (
        *("time", "reviews.date", "date", "submission_time", "date_added", "review_time"),
        *("timestamp_created", "created_at", "date_created", "at"),
    ),
    "verified_purchase": ("reviews.didPurchase",),
}
# The first name with a value counts. Letter case, spaces and punctuation are ignored. Variants of a
# product are reviewed as one, under their parent.
NAMES: Mapping[ReviewField, tuple[str, ...]] = {
    field: (*names, *_OTHERS.get(field, ())) for field, names in _AMAZON.items()
}

# Names of the columns of each field in one dump, the first one with a value counts.
Columns = Mapping[ReviewField, tuple[str, ...]]

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
        "verified": pl.Boolean,  # null where unknown
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
        # Of each line, as above: days since 1970, UTC; helpful votes; whether the purchase is
        # verified. Days and purchases are null where unknown.
        "review_days": pl.List(pl.Int32),
        "review_votes": pl.List(pl.Int32),
        "review_verified": pl.List(pl.Boolean),
    }
)

MOST_ID_CHARS = 256
# Larger counts are errors, and their sums would overflow.
MOST_COUNTED = 1_000_000_000
# Characters that control a terminal or end a line.
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]"


def find_columns(
    names: Sequence[str], mapping: Mapping[ReviewField, str]
) -> dict[ReviewField, tuple[str, ...]]:
    """Find the columns of each field among the names of a dump's columns or keys.

    Args:
        names: as in the dump.
        mapping: column by field, as in the setting ``columns``; it replaces the names known here.
    """
    plain = {name: _plain(name) for name in names}
    assigned = {
        field: [name for name in names if name == wanted]
        or [name for name in names if plain[name] == _plain(wanted)]
        for field, wanted in mapping.items()
    }
    taken = {name for columns in assigned.values() for name in columns}
    found = {}
    for field, known in NAMES.items():
        columns = assigned.get(field) or [
            name
            for alias in known
            for name in names
            if plain[name] == _plain(alias) and name not in taken
        ]
        if columns:
            found[field] = tuple(dict.fromkeys(columns))
    return found


def is_review(columns: Columns) -> bool:
    """Whether there are columns of product id and text, the fields that every dump needs."""
    return "product_id" in columns and "review_text" in columns


def json_columns(
    names: Sequence[str], mapping: Mapping[ReviewField, str]
) -> dict[ReviewField, tuple[str, ...]]:
    """Find columns as ``find_columns`` does; a key may also first occur far down the file."""
    found = find_columns(names, mapping)
    later = [name for field in NAMES if field not in found for name in NAMES[field]]
    later += [name for known in _AMAZON.values() for name in known]
    plain = {_plain(name) for name in names}
    later = [name for name in (*mapping.values(), *later) if _plain(name) not in plain]
    return find_columns(tuple(dict.fromkeys((*names, *later))), mapping)


def is_same_name(name: str, other: str) -> bool:
    """Whether two names of columns differ in case, spaces and punctuation only."""
    return _plain(name) == _plain(other)


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def product_id(columns: Columns, present: Sequence[str]) -> pl.Expr:
    """Product id of a row, null where it is blank; even NaN and null may be ids.

    Args:
        columns: of the dump.
        present: string columns of the table, at least one of them a product id.
    """
    ids = []
    for name in columns["product_id"]:
        if name not in present:
            continue
        found = pl.col(name)
        if _plain(name) == "asins":  # one product under several ids, separated by commas
            found = found.str.extract(r"^([^,]*)")
        found = found.str.strip_chars()
        ids.append(pl.when(found != "").then(found))
    return pl.coalesce(ids)


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


def normalized(raw: pl.DataFrame, columns: Columns) -> tuple[pl.DataFrame, dict[str, Reading]]:
    """Return cleaned reviews in ``REVIEW_SCHEMA``, in the same order.

    A value that cannot be read, such as a rating of "five", becomes null, and counts in the second
    result, by field.

    Args:
        raw: string columns of a dump.
        columns: of each field in the dump.
    """
    present = {name for name in raw.columns if raw[name].null_count() < raw.height}

    def first_of(field: ReviewField) -> pl.Series:
        names = [name for name in columns.get(field, ()) if name in present]
        if not names:
            return pl.repeat(None, raw.height, dtype=pl.String, eager=True)
        if names == [columns[field][0]] and field in ("review_text", "review_title"):
            return raw[names[0]]
        return raw.select(pl.coalesce(absent_as_null(pl.col(name)) for name in names)).to_series()

    readings: dict[str, Reading] = {}

    def read(field: ReviewField, parse: Callable[[pl.Series], pl.Series]) -> pl.Series:
        values, readings[field] = read_with(parse, first_of(field))
        return values

    reviews = pl.DataFrame(
        {
            "text": first_of("review_text").fill_null(""),
            "title": first_of("review_title").fill_null(""),
            "reviewer_id": read("reviewer_id", lambda names: names),
            "rating": read("rating", as_ratings),
            "helpful_votes": read("helpful_votes", as_votes).fill_null(0),
            "style": _styles(first_of("style")),
            "timestamp": read("review_date", as_seconds),
            "verified": as_flags(first_of("verified_purchase")),
        }
    )
    return reviews.select(
        raw.select(product_id(columns, raw.columns)).to_series().alias("product_id"),
        "reviewer_id",
        cleaned(pl.col("text")),
        cleaned(pl.col("title")),
        "rating",
        "helpful_votes",
        "style",
        "timestamp",
        "verified",
    ), readings


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
