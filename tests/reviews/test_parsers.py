"""Tests of ``json_rows`` and ``delimited``: both account for every line."""

from __future__ import annotations

import csv
import io
import json
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.reviews import delimited
from reviewsum_assets.reviews.delimited import Dialect, csv_rows, parse_tsv
from reviewsum_assets.reviews.fields import (
    MOST_ID_CHARS,
    Columns,
    find_columns,
    json_columns,
    normalized,
)
from reviewsum_assets.reviews.json_rows import parse_json_lines
from reviewsum_assets.reviews.rows import BadRow, named_rows
from tests.support.dumps import Review, amazon_2014, amazon_2018, amazon_2023, json_lines
from tests.support.hostile import damaged, examples, json_values, texts

JSON = json_columns((), {})
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


@st.composite
def json_rows(draw: st.DrawFn) -> bytes:
    """A review with unexpected values, or with damaged bytes."""
    format_ = draw(st.sampled_from([amazon_2014, amazon_2018, amazon_2023]))
    row = format_(Review(product=draw(texts)))
    for field in draw(st.lists(st.sampled_from([*row, "zzz", "product_id"]), max_size=2)):
        row[field] = draw(json_values)
    line = json.dumps(row, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return draw(damaged(line)) if draw(st.booleans()) else line


def parsed(lines: list[bytes]) -> tuple[pl.DataFrame, list[BadRow]]:
    fields, kept, bad, _ = parse_json_lines(lines, range(1, len(lines) + 1), JSON)
    assert len(kept) == fields.height
    return fields, bad


def require_accounted_for(
    fields: pl.DataFrame, bad: list[BadRow], numbers: set[int], columns: Columns = JSON
) -> None:
    """Check that each line is a clean review or a bad row with a reason."""
    assert fields.height + len(bad) == len(numbers)
    assert [row.line for row in bad] == sorted({row.line for row in bad} & numbers)
    for row in bad:
        assert row.reason.isprintable()
        row.excerpt.encode()
    reviews, _ = normalized(fields, columns)
    for product in reviews["product_id"]:
        assert product and len(product) <= MOST_ID_CHARS and not CONTROL.search(product)
    for number in reviews["rating"]:
        assert number is None or abs(number) < float("inf")
    for text in [*reviews["text"], *reviews["title"]]:
        assert not CONTROL.search(text)
    assert reviews["helpful_votes"].is_between(0, 10**9).all()
    assert reviews.with_columns(pl.from_epoch("timestamp")).height == reviews.height


@given(st.lists(json_rows(), max_size=8))
@examples(0.6)
def test_every_hostile_json_line_is_a_review_or_bad(rows: list[bytes]) -> None:
    lines = b"\n".join(rows).split(b"\n")
    numbers = {number for number, line in enumerate(lines, 1) if line.strip()}
    require_accounted_for(*parsed(lines), numbers)


@given(st.lists(st.lists(texts, min_size=3, max_size=3) | st.lists(texts), max_size=8))
@examples(0.5)
def test_every_hostile_tsv_line_is_a_review_or_bad(rows: list[list[str]]) -> None:
    content = "\n".join("\t".join(row) for row in rows).encode("utf-8", "surrogatepass")
    lines = [b"header", *content.split(b"\n")]
    names = ("product_id", "odd", "review_body")
    columns = find_columns(names, {})
    rows_read = parse_tsv(lines, range(1, len(lines) + 1), Dialect(names, "\t"), names)
    numbers = {number for number, line in enumerate(lines[1:], 2) if line.strip()}
    require_accounted_for(*named_rows(rows_read, columns), numbers, columns)


@given(st.lists(texts, min_size=1, max_size=6))
@examples(1)
def test_a_hostile_id_is_unchanged_or_refused(ids: list[str]) -> None:
    rows = b"".join(json_lines(amazon_2018, [Review(product=product)]) for product in ids)
    fields, bad = parsed(rows.splitlines())
    refused = {row.line for row in bad}
    kept = [product.strip() for line, product in enumerate(ids, 1) if line not in refused]
    assert normalized(fields, JSON)[0]["product_id"].to_list() == kept


@pytest.mark.parametrize("empty", ["", " "])
def test_a_blank_parent_id_gives_way_to_the_id(empty: str) -> None:
    row = {"parent_asin": empty, "asin": "B1", "text": "a text that is long enough"}
    fields, bad = parsed([json.dumps(row).encode()])
    assert (bad, normalized(fields, JSON)[0]["product_id"].to_list()) == ([], ["B1"])


def written(rows: list[list[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def split(content: str) -> tuple[list[list[str]], list[int]]:
    """Fields of good CSV rows, and lines of bad ones."""
    found = list(csv_rows(io.StringIO(f"a,b,c\n{content}", newline=""), Dialect(("a", "b", "c"))))
    good = [row[1] for row in found if not isinstance(row, BadRow)]
    return good, [row.line for row in found if isinstance(row, BadRow)]


cells = texts.map(lambda text: text.replace("\0", ""))


@given(st.lists(st.lists(cells, min_size=3, max_size=3), max_size=8))
@examples(0.6)
def test_well_formed_csv_is_read_as_it_was_written(rows: list[list[str]]) -> None:
    assert split(written(rows)) == (rows, [])


@given(
    # A cell that begins with a comma would be written as `",`, which closes the quote.
    st.lists(
        st.lists(cells.map(lambda c: re.sub(r'[\r\n"]', "", c).lstrip(",")), min_size=3, max_size=3)
    ),
    st.sampled_from(['x,"', 'x,"open,y', '"', 'x,y,"z', 'x,y"",z,"']),
    st.integers(0, 8),
)
@examples(0.6)
def test_a_hostile_unclosed_quote_costs_only_its_own_line(
    rows: list[list[str]], line: str, place: int
) -> None:
    before, after = written(rows[:place]), written(rows[place:])
    good, bad = split(f"{before}{line}\n{after}")
    # As the last line it swallows no other, and the csv module accepts it.
    assert (good, bad) == (rows, [2 + len(rows[:place])]) or (not after and good[:-1] == rows)


def test_hostile_quotes_that_span_many_rows_cost_linear_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = 0
    next_line = delimited._Lines.__next__

    def counted(lines: delimited._Lines) -> str:
        nonlocal reads
        reads += 1
        return next_line(lines)

    monkeypatch.setattr(delimited._Lines, "__next__", counted)
    monkeypatch.setattr(delimited, "MOST_ROW_LENGTH", 2_000)
    good, bad = split('a",":\n' * 5_000)
    assert bad and not good
    assert reads < 15_000


def test_bad_rows_do_not_accumulate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BATCH_ROWS", 10)
    content = b"asin,text\n" + b"x\n" * 95
    parts = list(
        delimited.read_csv(io.BytesIO(content), Dialect(("asin", "text")), ("asin", "text"))
    )
    assert [len(part.bad) for part in parts] == [10] * 9 + [5]
