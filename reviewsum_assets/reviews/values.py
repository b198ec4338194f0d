"""Values of fields as people write them: dates, ratings, votes, and words for an absent value.

Each reader takes a string column, as ``absent_as_null`` leaves it, and returns null where it can
make nothing of a value. The usual
spelling is tried on the whole column first, others on the distinct values that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

# Larger counts are errors, and their sums would overflow.
MOST_COUNTED = 1_000_000_000
# As programs write an absent value; \\N is NULL in exports of databases.
_ABSENT = [
    *("", "nan", "NaN", "NAN", "null", "NULL", "Null", "none", "None", "NONE", "n/a", "N/A"),
    *("inf", "-inf", "Inf", "-Inf", "Infinity", "-Infinity", "\\N", "<NA>", "NaT"),
]
_EXAMPLES = 3

_RATING = (
    r"(?i)^\s*(\d+(?:[.,]\d+)?)\s*(?:(?:out of|of|/|von|sur|de|su)\s*5(?:[.,]0)?\b.*|stars?\b.*)?$"
)
_VOTES = r"(?i)^\s*(\d[\d,]*|one\b|a\b)"
_VOTES_OF_ALL = r"^\s*\[\s*(\d+)"

# A Unix time is in the unit in which it lies between 1973 and the year 5138.
_FIRST_SECOND = 100_000_000
_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**20, 10**9))
_SECONDS_TO_YEAR_10000 = 253_402_300_800
_YEAR_FIRST = r"^(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?:\D|$)"
_COMPACT = r"^(?P<y>(?:19|20)\d{2})(?P<m>\d{2})(?P<d>\d{2})(?:T|$)"
# As Amazon writes reviewTime: "09 1, 2016".
_MONTH_DAY = r"^(?P<m>\d{1,2}) (?P<d>\d{1,2}), (?P<y>\d{4})$"
_YEAR_LAST = r"^(?P<a>\d{1,2})(?P<sep>[-/.])(?P<b>\d{1,2})[-/.](?P<y>\d{4}|\d{2})(?:\D|$)"
_MONTH = r"(?P<m>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_MONTH_NAMED = rf"(?i)\b{_MONTH} (?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y>\d{{4}})\b"
_DAY_MONTH = rf"(?i)\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[- .]+{_MONTH},?[- ](?P<y>\d{{4}}|\d{{2}})\b"
# As Ruby and Twitter write it: "Sun Jul 30 07:44:10 -0700 2017".
_YEAR_AT_END = rf"(?i)\b{_MONTH} (?P<d>\d{{1,2}}) \d.* (?P<y>\d{{4}})$"
_CLOCK = (
    r"(?i)(?P<h>\d{1,2}):(?P<min>\d{2})(?::(?P<s>\d{2})(?:[.,]\d+)?)?"
    r"\s*(?P<half>[ap]m)?\s*(?P<zone>[-+]\d{2}:?\d{2})?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Reading(NamedTuple):
    """How much of a field could be read: rows with a value, rows read, and unread examples."""

    given: int = 0
    read: int = 0
    examples: tuple[str, ...] = ()

    def plus(self, other: Reading) -> Reading:
        """Return the sum of both."""
        examples = dict.fromkeys((*self.examples, *other.examples))
        return Reading(
            self.given + other.given, self.read + other.read, tuple(examples)[:_EXAMPLES]
        )


def absent_as_null(text: pl.Expr) -> pl.Expr:
    """Text without surrounding white space; null for blanks, NaN, Infinity, NULL and the like."""
    stripped = text.str.strip_chars()
    return pl.when(~stripped.is_in(_ABSENT)).then(stripped)


def read_with(
    parse: Callable[[pl.Series], pl.Series], given: pl.Series
) -> tuple[pl.Series, Reading]:
    """Parse a column whose absent values are null; also return how much could be read."""
    values = parse(given)
    found = Reading(given.len() - given.null_count(), values.len() - values.null_count())
    if found.read == found.given:
        return values, found
    unread = given.filter(given.is_not_null() & values.is_null()).head(100)
    examples = tuple(value[:80] for value in unread.unique(maintain_order=True).head(_EXAMPLES))
    return values, found._replace(examples=examples)


def _other_spellings(
    given: pl.Series, values: pl.Series, parse: Callable[[pl.Series], pl.Series]
) -> pl.Series:
    """Fill in the values that are still missing; each distinct spelling is parsed once."""
    missing = (given.is_not_null() & values.is_null()).arg_true()
    if missing.is_empty():
        return values
    left = given.gather(missing)
    distinct = left.unique()
    parsed = pl.DataFrame({"text": distinct, "value": parse(distinct)})
    joined = left.to_frame("text").join(parsed, on="text", how="left", maintain_order="left")
    return values.scatter(missing, joined["value"])


def finite(text: pl.Expr) -> pl.Expr:
    """Text as a finite number, else null."""
    number = text.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _column(given: pl.Series, value: pl.Expr) -> pl.Series:
    return given.to_frame("text").select(value.alias("value")).to_series()


_TEXT = pl.col("text")


def as_ratings(given: pl.Series) -> pl.Series:
    """``4``, ``4.0``, ``4,0``, ``4 stars``, ``4.0 out of 5 stars``, ``4/5``, ``★★★★☆``.

    No rating is below 0: -1 says that there is none, or that a game is not recommended.
    """
    number = _TEXT.str.extract(_RATING).str.replace(",", ".", literal=True)
    stars = _TEXT.str.count_matches("★", literal=True).cast(pl.Float64)
    other = pl.coalesce(finite(number), pl.when(stars > 0).then(stars))
    plain = _column(given, pl.when(finite(_TEXT) >= 0).then(finite(_TEXT)))
    return _other_spellings(given, plain, lambda texts: _column(texts, other))


def as_votes(given: pl.Series) -> pl.Series:
    """``12``, ``1,024``, ``12 people found this helpful``, or from 2014 ``[2, 3]``: 2 of 3."""
    number = (
        pl.coalesce(_TEXT.str.extract(_VOTES_OF_ALL), _TEXT.str.extract(_VOTES))
        .str.replace_all(",", "", literal=True)
        .str.replace(r"(?i)^(?:one|a)$", "1")
        .cast(pl.Int64, strict=False)
    )

    def counted(texts: pl.Series, votes: pl.Expr) -> pl.Series:
        return _column(texts, pl.when(votes.is_between(0, MOST_COUNTED)).then(votes))

    plain = counted(given, _TEXT.cast(pl.Int64, strict=False))
    return _other_spellings(given, plain, lambda texts: counted(texts, number))


def as_flags(given: pl.Series) -> pl.Series:
    """``true``, ``Y``, ``1``, ``Verified Purchase`` and their opposites."""
    word = _TEXT.str.to_lowercase()
    yes = word.is_in(["true", "t", "yes", "y", "1", "1.0", "verified", "verified purchase"])
    no = word.is_in(["false", "f", "no", "n", "0", "0.0", "not verified", "unverified"])
    return _column(given, pl.when(yes).then(True).when(no).then(False))


def as_seconds(given: pl.Series) -> pl.Series:
    """Seconds since 1970 in UTC, from a Unix time in any unit or a date with or without a time."""
    number = _TEXT.cast(pl.Float64, strict=False)
    size = number.abs()
    units = pl.coalesce(
        pl.when(size < limit).then(number.floordiv(factor)) for limit, factor in _UNITS
    )
    seconds = pl.when(size >= _FIRST_SECOND).then(units)
    plain = _column(given, seconds.cast(pl.Int64, strict=False))
    dates = _other_spellings(
        given,
        plain,
        lambda texts: _column(texts, _TEXT.str.to_date("%Y-%m-%d", strict=False).dt.epoch("s")),
    )
    found = _other_spellings(given, dates, _spelled_dates)
    return found.set(found.abs() >= _SECONDS_TO_YEAR_10000, None)


def _spelled_dates(texts: pl.Series) -> pl.Series:
    """Dates in any spelling; where 01/02/2020 is ambiguous, other dates of the column decide."""
    frame = texts.to_frame("text")
    year_last = _TEXT.str.extract_groups(_YEAR_LAST).struct
    first, second = (year_last.field(name).cast(pl.Int32, strict=False) for name in "ab")
    has_point = year_last.field("sep") == "."  # then the day comes first everywhere
    is_day_first = has_point | (~has_point & (first > 12) & (second <= 12)).any()
    by_day, by_month = (
        _epoch_day(year_last.field("y"), *(year_last.field(name) for name in order))
        for order in ("ba", "ab")
    )
    shapes = (_YEAR_FIRST, _COMPACT, _MONTH_DAY, _MONTH_NAMED, _DAY_MONTH, _YEAR_AT_END)
    parts = [_TEXT.str.extract_groups(shape).struct for shape in shapes]
    ordered = pl.when(is_day_first).then(by_day).otherwise(by_month)
    day = pl.coalesce(
        ordered, by_day, by_month, *(_epoch_day(*(p.field(n) for n in "ymd")) for p in parts)
    )
    return frame.select(value=day + _second_of_day(_TEXT)).to_series()


def _epoch_day(year: pl.Expr, month: pl.Expr, day: pl.Expr) -> pl.Expr:
    """The first second of a day, null if there is no such day."""
    century = pl.when(year.str.len_chars() == 2).then(pl.lit("20")).otherwise(pl.lit(""))
    number = month.str.to_lowercase().replace(
        dict(zip(_MONTHS, map(str, range(1, 13)), strict=True))
    )
    text = pl.format("{}{}-{}-{}", century, year, number.str.zfill(2), day.str.zfill(2))
    return text.str.to_date("%Y-%m-%d", strict=False).dt.epoch("s")


def _second_of_day(text: pl.Expr) -> pl.Expr:
    """The time in a text as seconds in UTC, 0 if there is none."""
    clock = text.str.extract_groups(_CLOCK).struct
    hour, minute, second = (clock.field(n).cast(pl.Int64, strict=False) for n in ("h", "min", "s"))
    half = clock.field("half").str.to_lowercase()
    hour = (
        pl.when(half == "pm")
        .then(hour % 12 + 12)
        .when(half == "am")
        .then(hour % 12)
        .otherwise(hour)
    )
    zone = clock.field("zone").str.replace(":", "", literal=True).cast(pl.Int64, strict=False)
    offset = zone.sign() * (zone.abs() // 100 * 3600 + zone.abs() % 100 * 60)
    of_day = hour * 3600 + minute * 60 + second.fill_null(0) - offset.fill_null(0)
    return pl.when((hour < 24) & (minute < 60)).then(of_day).otherwise(0)
