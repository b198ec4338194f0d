from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews import readers
from reviewsum_assets.reviews.grouping import GroupedReviews, group_reviews, scan_grouped
from reviewsum_assets.reviews.quarantine import QuarantinedRow
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.dumps import amazon_2018, cleaned_csv, json_lines, reviews_of, tsv, write

GOOD = reviews_of("B1", 8)
GOOD_LINES = json_lines(amazon_2018, GOOD).splitlines()

BAD_LINES = {
    b'{"asin": "B1", "reviewText": "cut off': "not JSON",
    b"not json at all": "not JSON",
    b'["a", "list"]': "not an object but a list",
    b"5": "not an object but a int",
    b"null": "not an object but a NoneType",
    b'{"reviewText": "long enough to be kept as a review"}': "no product id",
    b'{"asin": "  ", "reviewText": "long enough to be kept"}': "no product id",
    b'{"asin": ["B1"], "reviewText": "long enough to be kept"}': "no product id",
    b'{"asin": "B1", "overall": 5.0}': "no text in",
    b'{"asin": "B1", "reviewText": ["long enough", "to be kept"]}': "is not text",
    b'{"asin": "B1", "reviewText": {"a": "long enough to be kept"}}': "is not text",
    b'{"asin": "B1", "reviewText": "invalid \xff\xfe bytes in the text"}': "not UTF-8",
    b'{"asin": "B1", "reviewText": "x"} trailing': "not JSON",
    b'{"asin": "B1", "reviewText": "x"}{"asin": "B1", "reviewText": "y"}': "not JSON",
    b"[" * 10_000: "not JSON",
    b'{"asin": "B1", "x": ' + b'{"a":' * 10_000: "not JSON",
}


def read(lake: Lake, path: str) -> GroupedReviews:
    record, _ = group_reviews(lake, load_settings(dumps=(path,)))
    return record


def quarantined(lake: Lake, record: GroupedReviews) -> list[QuarantinedRow]:
    if record.quarantine_key is None:
        return []
    lines = (lake.get(record.quarantine_key) or b"").splitlines()
    return [QuarantinedRow.model_validate_json(line) for line in lines]


@pytest.mark.parametrize(
    "line", list(BAD_LINES), ids=lambda line: line[:40].decode(errors="replace")
)
def test_a_bad_line_is_named_and_the_rest_is_kept(lake: Lake, tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "dump", b"\n".join([*GOOD_LINES[:3], line, *GOOD_LINES[3:]]))
    record = read(lake, path)
    (bad,) = quarantined(lake, record)
    assert (bad.file, bad.line) == (path, 4)
    assert BAD_LINES[line] in bad.reason
    assert len(bad.excerpt) <= 800
    assert (record.counts.reviews_read, record.counts.quarantined) == (8, 1)


@given(st.lists(st.sampled_from([None, *BAD_LINES]), max_size=40), st.integers(40, 4000))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_exactly_the_bad_lines_are_named_wherever_they_are_and_batches_end(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[bytes | None],
    batch_bytes: int,
) -> None:
    monkeypatch.setattr(readers, "BATCH_BYTES", batch_bytes)
    folder = tmp_path_factory.mktemp("case")
    good = json_lines(amazon_2018, reviews_of("B1", len(lines) + 5)).splitlines()
    content = [good[index] if line is None else line for index, line in enumerate(lines)]
    content += good[len(lines) :]
    lake = Lake.open(str(folder / "lake"))
    record = read(lake, write(folder / "dump", b"\n".join(content)))
    expected = [number for number, line in enumerate(lines, 1) if line is not None]
    assert [row.line for row in quarantined(lake, record)] == expected
    assert record.counts.reviews_kept == len(content) - len(expected)


@pytest.mark.parametrize("text", [None, "", "too short"])
def test_a_review_without_much_text_is_short_and_not_bad(
    lake: Lake, tmp_path: Path, text: str | None
) -> None:
    row = json.dumps({"asin": "B1", "reviewText": text}).encode()
    record = read(lake, write(tmp_path / "dump", b"\n".join([*GOOD_LINES, row])))
    assert (record.counts.too_short, record.counts.quarantined) == (1, 0)


def test_a_bad_optional_field_does_not_lose_the_row(lake: Lake, tmp_path: Path) -> None:
    row = {**amazon_2018(GOOD[0]), "reviewerID": "other"}
    row |= {"overall": "five", "vote": "lots", "unixReviewTime": "x", "reviewTime": "y", "style": 3}
    content = b"\n".join([*GOOD_LINES, json.dumps(row).encode()])
    record = read(lake, write(tmp_path / "dump", content))
    assert (record.counts.reviews_kept, record.counts.quarantined) == (9, 0)


@pytest.mark.parametrize(
    "text",
    ["lone \\ud800 surrogate in a long text", "a NUL \\u0000 character in a long text"],
)
def test_odd_characters_end_in_a_row(lake: Lake, tmp_path: Path, text: str) -> None:
    row = b'{"asin": "B1", "reviewText": "' + text.encode() + b'"}'
    record = read(lake, write(tmp_path / "dump", b"\n".join([*GOOD_LINES, row])))
    assert record.counts.reviews_kept + record.counts.quarantined == 9


def test_numbers_of_any_size_do_not_move_rows(lake: Lake, tmp_path: Path) -> None:
    rows = [
        b'{"asin": "B1", "reviewText": "a review with a huge time", "unixReviewTime": 1e400}',
        b'{"asin": "B1", "reviewText": "a review with a long one", "unixReviewTime": '
        + b"9" * 400
        + b"}",
        b'{"asin": "B1", "reviewText": "a review that is NaN", "overall": NaN}',
    ]
    record = read(lake, write(tmp_path / "dump", b"\n".join([*GOOD_LINES, *rows])))
    assert record.counts.reviews_read + record.counts.quarantined == 11
    text: str = scan_grouped(lake, record).collect()["all_reviews"].item()
    assert all(f"Review number {n} of" in text for n in range(8))


@pytest.mark.parametrize(("render", "separator"), [(tsv, b"\t"), (cleaned_csv, b",")])
def test_a_row_of_the_wrong_width_is_named(
    lake: Lake, tmp_path: Path, render: object, separator: bytes
) -> None:
    assert callable(render)
    lines = render(GOOD).splitlines()
    lines[3:3] = [separator.join([b"x"] * 3), separator.join([b"x"] * 40)]
    record = read(lake, write(tmp_path / "dump", b"\n".join(lines)))
    found = [(row.line, row.reason.split(" instead")[0]) for row in quarantined(lake, record)]
    assert found == [(4, "3 columns"), (5, "40 columns")]
    assert record.counts.reviews_kept == 8


@pytest.mark.parametrize("render", [tsv, cleaned_csv])
def test_bytes_that_are_no_text_spoil_their_row_only(
    lake: Lake, tmp_path: Path, render: object
) -> None:
    assert callable(render)
    lines = render(GOOD).splitlines()
    lines[3] = lines[3].replace(b"number", b"num\xffber")
    record = read(lake, write(tmp_path / "dump", b"\n".join(lines)))
    (bad,) = quarantined(lake, record)
    assert bad.line == 4
    assert bad.reason.startswith("not UTF-8")
    assert record.counts.reviews_kept == 7


def test_a_truncated_gzip_keeps_what_can_be_read_and_names_the_line(
    lake: Lake, tmp_path: Path
) -> None:
    content = json_lines(amazon_2018, reviews_of("B1", 2000))
    packed = gzip.compress(content)
    cut = packed[: len(packed) // 2]
    readable = zlib.decompressobj(wbits=31).decompress(cut).count(b"\n")
    path = tmp_path / "dump.gz"
    path.write_bytes(cut)
    record = read(lake, str(path))
    assert 0 < record.counts.reviews_read <= readable + 1
    last = quarantined(lake, record)[-1]
    assert "file is damaged" in last.reason
    assert last.line >= record.counts.reviews_read


def test_a_dump_without_a_readable_row_is_an_error_with_the_first_reason(
    lake: Lake, tmp_path: Path
) -> None:
    lines = tsv(GOOD).splitlines()
    path = write(tmp_path / "dump", b"\n".join([lines[0], b"x\ty", b"z"]))
    with pytest.raises(DumpError, match="no readable row; 2 are bad, the first: line 2: 2 columns"):
        read(lake, path)
