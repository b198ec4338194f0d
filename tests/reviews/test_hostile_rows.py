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
from reviewsum_assets.reviews.delimited import CsvRow, parse_tsv
from reviewsum_assets.reviews.fields import MOST_CHARS, PRODUCT_ID, cleaned, normalized
from reviewsum_assets.reviews.json_lines import parse_json_lines
from reviewsum_assets.reviews.quarantine import BadRow
from tests.support.dumps import Review, amazon_2014, amazon_2018, amazon_2023, json_lines
from tests.support.hostile import damaged, examples, json_values, texts

ILLEGAL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
SPECIAL = ("<pad>", "</s>", "<s>", "<n>", "<unk_7>", "<mask_1>")


@st.composite
def json_rows(draw: st.DrawFn) -> bytes:
    """A review with a field that is not what it should be, or the bytes damaged."""
    format_ = draw(st.sampled_from([amazon_2014, amazon_2018, amazon_2023]))
    row = format_(Review(product=draw(texts)))
    for field in draw(st.lists(st.sampled_from([*row, "zzz", "product_id"]), max_size=2)):
        row[field] = draw(json_values)
    line = json.dumps(row, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return draw(damaged(line)) if draw(st.booleans()) else line


def require_clean(reviews: pl.DataFrame) -> None:
    """What holds of reviews, whatever the rows were."""
    for product in reviews["product_id"]:
        assert product and len(product) <= MOST_CHARS and not ILLEGAL.search(product)
    for number in reviews["rating"]:
        assert number is None or abs(number) < float("inf")
    for text in [*reviews["text"], *reviews["title"]]:
        assert not ILLEGAL.search(text)
    assert reviews["helpful_votes"].is_between(0, 10**9).all()
    assert reviews.with_columns(pl.from_epoch("timestamp")).height == reviews.height


def require_named(bad: list[BadRow], numbers: set[int]) -> None:
    """That bad rows are told apart, with a reason on one line."""
    assert [row.line for row in bad] == sorted({row.line for row in bad} & numbers)
    for row in bad:
        assert row.reason.isprintable()
        row.excerpt.encode()


@given(st.lists(json_rows(), max_size=8))
@examples(0.6)
def test_every_json_line_is_a_review_or_named(rows: list[bytes]) -> None:
    lines = b"\n".join(rows).split(b"\n")
    fields, bad = parse_json_lines(lines, 1)
    numbers = {number for number, line in enumerate(lines, 1) if line.strip()}
    assert fields.height + len(bad) == len(numbers)
    require_named(bad, numbers)
    require_clean(normalized(fields))


@given(st.lists(texts, min_size=1, max_size=6))
@examples(1)
def test_an_id_is_taken_as_it_is_or_refused(ids: list[str]) -> None:
    rows = b"".join(json_lines(amazon_2018, [Review(product=product)]) for product in ids)
    fields, bad = parse_json_lines(rows.splitlines(), 1)
    refused = {row.line for row in bad}
    taken = [product for line, product in enumerate(ids, 1) if line not in refused]
    assert normalized(fields)["product_id"].to_list() == [product.strip() for product in taken]


@given(st.lists(st.lists(texts, min_size=3, max_size=3) | st.lists(texts), max_size=8))
@examples(0.5)
def test_every_tsv_line_is_a_review_or_named(rows: list[list[str]]) -> None:
    content = "\n".join("\t".join(row) for row in rows).encode("utf-8", "surrogatepass")
    lines = [b"header", *content.split(b"\n")]
    fields, bad = parse_tsv(lines, 1, ["product_id", "odd", "review_body"])
    numbers = {number for number, line in enumerate(lines[1:], 2) if line.strip()}
    assert fields.height + len(bad) == len(numbers)
    require_named(bad, numbers)
    require_clean(normalized(fields))


def written(rows: list[list[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


cells = texts.map(lambda text: text.replace("\0", ""))
well_formed = st.lists(st.lists(cells, min_size=3, max_size=3), max_size=8)


@given(well_formed)
@examples(0.6)
def test_csv_that_was_written_well_is_read_as_it_was(rows: list[list[str]]) -> None:
    found = delimited.csv_rows(io.StringIO("a,b,c\n" + written(rows), newline=""), 3)
    assert [row.fields for row in found if isinstance(row, CsvRow)] == rows


@given(
    st.lists(st.lists(cells.map(lambda c: re.sub(r'[\r\n"]', "", c)), min_size=3, max_size=3)),
    st.sampled_from(['x,"', 'x,"open,y', '"', 'x,y,"z', 'x,y"",z,"']),
    st.integers(0, 8),
)
@examples(0.6)
def test_a_quote_that_nobody_closes_costs_its_own_line(
    rows: list[list[str]], line: str, place: int
) -> None:
    before, after = written(rows[:place]), written(rows[place:])
    content = f"a,b,c\n{before}{line}\n{after}"
    found = list(delimited.csv_rows(io.StringIO(content, newline=""), 3))
    good = [row.fields for row in found if isinstance(row, CsvRow)]
    bad = [row.line for row in found if isinstance(row, BadRow)]
    # As the last line of all it takes nothing along, and the csv module lets it pass.
    assert (good, bad) == (rows, [2 + len(rows[:place])]) or (not after and good[:-1] == rows)


def test_quotes_that_make_every_line_part_of_many_rows_cost_no_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_out = 0
    next_line = delimited._Lines.__next__

    def counted(lines: delimited._Lines) -> str:
        nonlocal given_out
        given_out += 1
        return next_line(lines)

    monkeypatch.setattr(delimited._Lines, "__next__", counted)
    monkeypatch.setattr(delimited, "MOST_ROW_LENGTH", 2_000)
    content = "a,b,c\n" + 'a",":\n' * 5_000
    found = list(delimited.csv_rows(io.StringIO(content, newline=""), 3))
    assert all(isinstance(row, BadRow) for row in found)
    assert given_out < 15_000


@pytest.mark.parametrize("empty", ["", " "])
def test_a_blank_parent_id_gives_way_to_the_id(empty: str) -> None:
    row = {"parent_asin": empty, "asin": "B1", "text": "a text that is long enough"}
    fields, bad = parse_json_lines([json.dumps(row).encode()], 1)
    assert (bad, normalized(fields)["product_id"].to_list()) == ([], ["B1"])
    assert PRODUCT_ID[0] == "parent_asin"


def clean(text: str) -> object:
    return pl.DataFrame({"text": [text]}).select(cleaned(pl.col("text"))).item()


invisible = st.sampled_from(["", "\u200b", "\ufeff", "\u00ad", "\u2060", "\u202e", "&#8203;"])


@given(st.sampled_from(SPECIAL), st.lists(invisible, min_size=10, max_size=10), st.booleans())
@examples(0.5)
def test_no_token_of_the_model_can_be_smuggled_in(
    token: str, between: list[str], is_escaped: bool
) -> None:
    hidden = "".join(map("".join, zip(between, token, strict=False)))
    if is_escaped:
        hidden = hidden.replace("<", "&lt;").replace(">", "&amp;gt;")
    assert clean(f"good {hidden} sound") == "good sound"


def test_numbers_of_characters_may_be_of_any_length() -> None:
    text = f"good &#{'1' * 10_000}; &amp;#{'1' * 10_000}; sound"
    assert clean(text) == "good \ufffd \ufffd sound"
