"""Tests of ``readers`` and ``rows``: hostile rows are named, all others are read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.errors import ReviewsumError
from reviewsum_assets.reviews import readers, rows
from reviewsum_assets.reviews.fields import MOST_ID_CHARS
from reviewsum_assets.reviews.grouped import current_grouped_reviews
from reviewsum_assets.reviews.readers import fetched_ahead, mapped_ahead
from reviewsum_assets.storage.lake import Lake
from tests.reviews.support import group, grouped
from tests.support.dumps import (
    FORMATS,
    Review,
    amazon_2014,
    amazon_2018,
    cleaned_csv,
    json_lines,
    reviews_of,
    tsv,
)
from tests.support.hostile import damaged, examples, texts

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GOOD = reviews_of("B1", 8)
GOOD_LINES = json_lines(amazon_2018, GOOD).splitlines()
PACKED = gzip.compress(json_lines(amazon_2018, GOOD))

BAD_LINES = {
    b'{"asin": "B1", "reviewText": "cut off': "not JSON",
    b"not json at all": "not JSON",
    b'["a", "list"]': "not an object but a list",
    b"5": "not an object but a int",
    b"null": "not an object but a NoneType",
    b'{"reviewText": "long enough to be kept as a review"}': "no product id",
    b'{"asin": "  ", "reviewText": "long enough to be kept"}': "no product id",
    b'{"asin": ["B1"], "reviewText": "long enough to be kept"}': "product id is no text",
    b'{"asin": "B1", "overall": 5.0}': "no text of a review",
    b'{"asin": "B1", "reviewText": ["long enough", "to be kept"]}': "is not text",
    b'{"asin": "B1", "reviewText": {"a": "long enough to be kept"}}': "is not text",
    b'{"asin": "B1", "reviewText": "invalid \x81\x8d bytes in the text"}': "not UTF-8",
    b'{"asin": "B1", "reviewText": "x"} trailing': "not JSON",
    b'{"asin": "B1", "reviewText": "x"}{"asin": "B1", "reviewText": "y"}': "not JSON",
    b"[" * 10_000: "not JSON",
    b'{"asin": "B1", "x": ' + b'{"a":' * 10_000: "not JSON",
}


@pytest.mark.parametrize("work", [fetched_ahead, lambda items: mapped_ahead(int, items)])
def test_items_fetched_ahead_keep_their_order_and_raise_in_place(
    work: Callable[[Iterator[int]], Iterator[int]],
) -> None:
    def items() -> Iterator[int]:
        yield from range(10)
        raise ValueError("no more items")

    found: list[int] = []
    with pytest.raises(ValueError, match="no more items"):
        found.extend(work(items()))
    assert found == list(range(len(found)))
    assert list(work(iter(range(100)))) == list(range(100))
    assert list(work(iter(()))) == []


def test_the_next_item_is_fetched_while_the_current_one_is_processed() -> None:
    second_is_fetched = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second_is_fetched.set()
        yield 2

    ahead = fetched_ahead(items())
    assert next(ahead) == 1
    assert second_is_fetched.wait(10)
    assert list(ahead) == [2]


def test_an_item_is_mapped_while_the_next_one_is_fetched() -> None:
    first_is_mapped = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert first_is_mapped.wait(10)
        yield 0

    def inverse(number: int) -> int:
        first_is_mapped.set()
        return 1 // number

    ahead = mapped_ahead(inverse, items())
    assert next(ahead) == 1
    with pytest.raises(ZeroDivisionError):
        next(ahead)


@pytest.mark.parametrize(
    "line", list(BAD_LINES), ids=lambda line: line[:40].decode(errors="replace")
)
def test_a_hostile_line_is_named_and_the_others_are_kept(lake: Lake, line: bytes) -> None:
    found = group(lake, b"\n".join([*GOOD_LINES[:3], line, *GOOD_LINES[3:]]))
    (bad,) = found.bad
    assert (bad.file, bad.line) == (found.record.dumps[0].name, 4)
    assert BAD_LINES[line] in bad.reason
    assert len(bad.excerpt) <= 800
    assert (found.record.counts.reviews_read, found.record.counts.quarantined) == (8, 1)


@given(st.lists(st.sampled_from([None, *BAD_LINES]), max_size=40), st.integers(40, 4000))
@examples(0.6)
def test_exactly_the_hostile_lines_are_named_regardless_of_batches(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[bytes | None],
    batch_bytes: int,
) -> None:
    monkeypatch.setattr(readers, "BATCH_BYTES", batch_bytes)
    good = json_lines(amazon_2018, reviews_of("B1", len(lines) + 5)).splitlines()
    content = [good[index] if line is None else line for index, line in enumerate(lines)]
    content += good[len(lines) :]
    lake = Lake.open(str(tmp_path_factory.mktemp("case") / "lake"))
    found = group(lake, b"\n".join(content))
    expected = [number for number, line in enumerate(lines, 1) if line is not None]
    assert [row.line for row in found.bad] == expected
    assert found.record.counts.reviews_kept == len(content) - len(expected)


@pytest.mark.parametrize("text", [None, "", "too short"])
def test_a_review_without_much_text_is_too_short_and_not_bad(lake: Lake, text: str | None) -> None:
    row = json.dumps({"asin": "B1", "reviewText": text}).encode()
    counts = group(lake, b"\n".join([*GOOD_LINES, row])).record.counts
    assert (counts.too_short, counts.quarantined) == (1, 0)


def test_invalid_and_unbounded_optional_fields_become_null(lake: Lake) -> None:
    invalid: dict[str, object] = {
        "overall": "five",
        "vote": "lots",
        "unixReviewTime": "x",
        "reviewTime": "y",
    }
    hostile: dict[str, object] = {
        "overall": "NaN",
        "vote": "9223372036854775807",
        "unixReviewTime": "1e300",
    }
    changes = [
        {**invalid, "style": 3},
        hostile,
        {**hostile, "overall": "Infinity"},
    ]
    changed = [{**amazon_2018(Review("B1", f"Z{n}")), **row} for n, row in enumerate(changes)]
    more = [
        b'{"asin": "B1", "reviewText": "a review with a huge time", "unixReviewTime": 1e400}',
        b'{"asin": "B1", "reviewText": "a review with a long one", "unixReviewTime": %s}'
        % (b"9" * 400),
        b'{"asin": "B1", "reviewText": "a review of NaN stars", "overall": NaN}',
    ]
    content = [*GOOD_LINES, *(json.dumps(row).encode() for row in changed), *more]
    found = group(lake, b"\n".join(content))
    counts = found.record.counts
    assert counts.reviews_read + counts.quarantined == len(content)
    (product,) = found.products.to_dicts()
    assert product["review_count"] >= 11
    assert (product["avg_rating"], product["total_helpful_votes"]) == (5.0, 0)
    assert product["newest_review_timestamp"] == 17_000 * 86_400
    assert all(review.text in product["all_reviews"] for review in GOOD)


@pytest.mark.parametrize(
    "text", ["lone \\ud800 surrogate in a long text", "a NUL \\u0000 character in a long text"]
)
def test_unusual_characters_do_not_lose_a_row(lake: Lake, text: str) -> None:
    row = b'{"asin": "B1", "reviewText": "' + text.encode() + b'"}'
    counts = group(lake, b"\n".join([*GOOD_LINES, row])).record.counts
    assert counts.reviews_kept + counts.quarantined == 9


@pytest.mark.parametrize(("render", "separator"), [(tsv, b"\t"), (cleaned_csv, b",")])
def test_rows_of_the_wrong_width_and_bytes_that_are_no_text_are_named(
    lake: Lake, render: Callable[[list[Review]], bytes], separator: bytes
) -> None:
    lines = render(GOOD).splitlines()
    lines[3:3] = [separator.join([b"x"] * width) for width in (3, 40)]
    lines[7] = lines[7].replace(b"number", b"num\x81ber")
    found = group(lake, b"\n".join(lines))
    reasons = [(row.line, row.reason[:9]) for row in found.bad]
    assert reasons == [(4, "3 columns"), (5, "40 column"), (8, "not UTF-8")]
    assert found.record.counts.reviews_kept == 7


def test_a_product_id_with_a_nul_is_refused_and_not_merged(lake: Lake) -> None:
    content = cleaned_csv(GOOD)
    content += content.splitlines()[1].replace(b"B1", b"B\x001", 1) + b"\n"
    found = group(lake, content)
    (bad,) = found.bad
    assert (bad.line, bad.reason) == (10, "the product id has control characters or line ends")
    assert found.products["review_count"].item() == 8


@pytest.mark.parametrize("count", ["-1", "1000000001", "9" * 30, "NaN", "5.5", ""])
def test_an_invalid_review_count_is_named(lake: Lake, count: str) -> None:
    content = f"product_id,all_reviews,review_count\nB1,good,5\nB2,good,{count}\n"
    (bad,) = group(lake, content.encode()).bad
    assert bad.line == 3
    assert bad.reason.startswith("review_count is not")


@pytest.mark.parametrize(
    ("content", "kept", "reason"),
    [
        (PACKED + b"garbage behind it", 8, "Not a gzipped file"),
        (PACKED[:-8] + b"\0" * 8, 8, "CRC check failed"),
        (PACKED[:-9], 7, "ended before the end-of-stream marker"),
        (gzip.compress(b"\n".join(json_lines(amazon_2018, GOOD).splitlines())) + b"x", 7, "gzip"),
    ],
    ids=range(4),
)
def test_everything_before_the_damage_of_a_hostile_gzip_is_kept(
    lake: Lake, content: bytes, kept: int, reason: str
) -> None:
    found = group(lake, content)
    (bad,) = found.bad
    assert (found.record.counts.reviews_read, bad.line) == (kept, kept + 1)
    assert bad.reason.startswith(rows.BREAKS_OFF) and reason in bad.reason
    assert found.record.dumps[0].damage == f"line {bad.line}: {bad.reason}"


def test_a_truncated_gzip_is_read_up_to_its_end(lake: Lake) -> None:
    packed = gzip.compress(json_lines(amazon_2018, reviews_of("B1", 2000)))
    cut = packed[: len(packed) // 2]
    readable = zlib.decompressobj(wbits=31).decompress(cut).count(b"\n")
    found = group(lake, cut)
    assert 0 < found.record.counts.reviews_read <= readable + 1
    assert found.bad[-1].line >= found.record.counts.reviews_read


def test_bad_rows_beyond_the_limit_are_counted_but_not_listed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_LISTED", 3)
    monkeypatch.setattr(readers, "BATCH_BYTES", 50)
    found = group(lake, b"no\n" * 10 + json_lines(amazon_2018, GOOD))
    assert found.record.counts.quarantined == 10
    assert [row.line for row in found.bad] == [1, 2, 3, 4]
    assert found.bad[-1].reason.endswith("counted, but not listed")


@st.composite
def dumps(draw: st.DrawFn) -> bytes:
    """A dump of text, damaged before or after it was packed, or both.

    Not Parquet, in which forged lengths make polars end the process.
    """
    review = st.builds(Review, product=st.just("B1") | texts, text=st.just(GOOD[0].text) | texts)
    name = draw(st.sampled_from(["2014", "2018", "2023", "TSV", "CSV", *OTHER_LAYOUTS]))
    reviews = draw(st.lists(review, min_size=1, max_size=6))
    content = draw(damaged((OTHER_LAYOUTS.get(name) or FORMATS[name])(reviews)))
    content = content.decode(errors="replace").encode(
        draw(st.sampled_from(["utf-8", "utf-8", "utf-16", "cp1252"])), "replace"
    )
    if draw(st.booleans()):
        content = draw(st.sampled_from(PACKINGS))(content)
        content = draw(st.just(content) | damaged(content))
    return content


def zip_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", content)
    return buffer.getvalue()


PACKINGS: tuple[Callable[[bytes], bytes], ...] = (
    gzip.compress,
    bz2.compress,
    lzma.compress,
    zstd.compress,
    zip_of,
)


def grouped_csv(reviews: list[Review]) -> bytes:
    table = pl.DataFrame([{"product_id": r.product, "all_reviews": r.text} for r in reviews])
    return table.with_columns(review_count=pl.lit(5)).write_csv().encode()


OTHER_LAYOUTS: dict[str, Callable[[list[Review]], bytes]] = {
    "grouped": grouped_csv,
    "array": lambda reviews: json.dumps([amazon_2018(review) for review in reviews]).encode(),
    "indented": lambda reviews: json.dumps([amazon_2018(r) for r in reviews], indent=1).encode(),
    "literals": lambda reviews: b"\n".join(repr(amazon_2014(r)).encode() for r in reviews),
    "semicolons": lambda reviews: cleaned_csv(reviews).replace(b",", b";"),
    "backslashes": lambda reviews: cleaned_csv(reviews).replace(b'""', b'\\"'),
}


@given(dumps(), st.integers(50, 5_000))
@examples(0.6)
def test_a_hostile_dump_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    batch_bytes: int,
) -> None:
    monkeypatch.setattr(readers, "BATCH_BYTES", batch_bytes)
    try:
        found = group(Lake.open(str(tmp_path_factory.mktemp("case") / "lake")), content)
    except ReviewsumError as error:
        assert "\n" not in str(error)
        return
    assert len(found.bad) == found.record.counts.quarantined
    assert all(row.line >= 1 and row.reason.isprintable() for row in found.bad)
    assert found.products["product_id"].is_unique().all()
    assert found.products["product_id"].str.len_chars().is_between(1, MOST_ID_CHARS).all()
    assert found.products["avg_rating"].drop_nulls().is_finite().all()


@pytest.mark.parametrize(
    ("name", "head", "before", "after"),
    [("2018", 4, b'{"asin": "B1", "reviewText": "', b'"}\n'), ("CSV", 5, b'5.0,"', b'"\n')],
)
def test_a_hostile_field_larger_than_memory_is_one_bad_row(
    tmp_path: Path, name: str, head: int, before: bytes, after: bytes
) -> None:
    lines = FORMATS[name](GOOD).splitlines(keepends=True)
    million = gzip.compress(b"x" * 1_000_000)
    dump = tmp_path / "dump.gz"
    with dump.open("wb") as file:
        file.write(gzip.compress(b"".join(lines[:head]) + before))
        file.writelines([million] * 600)
        file.write(gzip.compress(after + b"".join(lines[head:])))
    assert dump.stat().st_size < 2_000_000
    # Two unpacked copies, or one with four bytes per character in the csv module, are too much.
    paths = [str(dump), str(tmp_path / "lake")]
    command = [sys.executable, "-m", "tests.support.little_memory", *paths, "1500"]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    lake = Lake.open(str(tmp_path / "lake"))
    record = current_grouped_reviews(lake)
    assert record is not None
    assert (record.counts.reviews_kept, record.counts.quarantined) == (8, 1)
    (bad,) = grouped(lake, record).bad
    assert (bad.line, bad.reason) == (head + 1, "longer than 67,108,864 characters")


def test_a_hostile_block_of_line_ends_is_parsed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST_LINES", 10)
    monkeypatch.setattr(readers, "BATCH_BYTES", 64)
    lines = [b"" if number % 3 else b"%d" % number for number in range(1, 1_000)]
    parts = list(readers._line_batches(io.BytesIO(b"\n".join(lines))))
    assert max(len(part) for part, _, _ in parts) == 10
    assert [line for part, _, _ in parts for line in part] == lines
    for part, numbers, bad in parts:
        assert part == [lines[number - 1] for number in numbers]
        assert not bad
