from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import polars as pl
import pytest

from reviewsum_assets.reviews.values import (
    Reading,
    absent_as_null,
    as_flags,
    as_ratings,
    as_seconds,
    as_votes,
    read_with,
)

Parse = Callable[[pl.Series], pl.Series]
NOON = dt.datetime(2020, 1, 15, 12, tzinfo=dt.UTC)
DAY = dt.datetime(2020, 1, 15, tzinfo=dt.UTC)


def parsed(parse: Parse, *texts: str | None) -> list[object]:
    given = pl.select(absent_as_null(pl.lit(pl.Series(texts, dtype=pl.String)))).to_series()
    return parse(given).to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1579089600", NOON),
        ("1579089600000", NOON),
        ("1579089600000000", NOON),
        ("1579089600000000000", NOON),
        ("1579089600.25", NOON),
        ("1.5790896e9", NOON),
        ("2020-01-15", DAY),
        (" 2020-1-15 ", DAY),
        ("2020/01/15", DAY),
        ("20200115", DAY),
        ("2020-01-15T12:00:00Z", NOON),
        ("2020-01-15T12:00:00.123456+00:00", NOON),
        ("2020-01-15 14:00:00+02:00", NOON),
        ("2020-01-15T04:00:00.000-0800", NOON),
        ("2020-01-15 12:00:00", NOON),
        ("2020-01-15 12:00", NOON),
        ("2020-01-15 12:00:00 UTC", NOON),
        ("01 15, 2020", DAY),
        ("01/15/2020 12:00 PM", NOON),
        ("15.01.2020", DAY),
        ("January 15, 2020", DAY),
        ("Jan 15th 2020", DAY),
        ("15 January 2020", DAY),
        ("15-Jan-20", DAY),
        ("Reviewed in the United States on January 15, 2020", DAY),
        ("Reviewed in India on 15 January 2020", DAY),
        ("Wed Jan 15 04:00:00 -0800 2020", NOON),
        ("2020-13-45", None),
        ("43845", None),  # a day of a spreadsheet: in seconds it would be of 1970
        ("1e300", None),
        ("soon", None),
        (None, None),
    ],
)
def test_a_date_is_read_however_it_is_written(text: str | None, expected: dt.datetime) -> None:
    seconds = None if expected is None else int(expected.timestamp())
    assert parsed(as_seconds, text) == [seconds]


@pytest.mark.parametrize(
    ("other", "expected"), [("13/02/2020", "2020-02-01"), ("02/13/2020", "2020-01-02")]
)
def test_other_dates_of_a_column_tell_day_and_month_apart(other: str, expected: str) -> None:
    seconds, _ = parsed(as_seconds, "01/02/2020", other)
    assert isinstance(seconds, int)
    assert str(dt.datetime.fromtimestamp(seconds, dt.UTC).date()) == expected


@pytest.mark.parametrize(
    ("parse", "texts", "expected"),
    [
        (as_ratings, ["4", "4.0", "4,0", " 4 "], 4.0),
        (as_ratings, ["4 stars", "4.0 out of 5 stars", "4/5", "4,0 von 5 Sternen", "★★★★☆"], 4.0),
        (as_ratings, ["five", "8/10", "1e999", "NaN", "-1"], None),
        (as_votes, ["12", "12.0", "12 people found this helpful", "[12, 13]", "[12,13]"], 12),
        (as_votes, ["1,234"], 1234),
        (as_votes, ["1", "One person found this helpful"], 1),
        (as_votes, ["lots", "9223372036854775807", "-1"], None),
        (as_flags, ["true", "True", "Y", "1", "Verified Purchase"], True),
        (as_flags, ["false", "N", "0", "no"], False),
        (as_flags, ["perhaps"], None),
    ],
)
def test_values_are_read_as_people_write_them(
    parse: Parse, texts: list[str], expected: object
) -> None:
    assert parsed(parse, *texts) == [expected] * len(texts)


def test_what_cannot_be_read_is_counted_with_examples() -> None:
    given = pl.Series(["5", None, "bad", "bad", "worse"], dtype=pl.String)
    _, reading = read_with(as_ratings, given)
    assert reading == Reading(4, 1, ("bad", "worse"))
    both = reading.plus(Reading(2, 1, ("x", "y")))
    assert both == Reading(6, 2, ("bad", "worse", "x"))
