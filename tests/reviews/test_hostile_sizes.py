from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from reviewsum_assets.reviews import delimited, readers
from reviewsum_assets.reviews.grouping import current_grouped_reviews
from reviewsum_assets.reviews.quarantine import QuarantinedRow
from reviewsum_assets.storage.lake import Lake
from tests.support.dumps import FORMATS, reviews_of

MEGABYTE = 1_000_000
GOOD = reviews_of("B1", 8)
LINES = {name: FORMATS[name](GOOD).splitlines(keepends=True) for name in ("2018", "CSV")}
# What comes before and behind a field without end, and the line that it is on.
AROUND = {"2018": (b'{"asin": "B1", "reviewText": "', b'"}\n', 5), "CSV": (b'5.0,"', b'"\n', 6)}


def group_in_little_memory(dump: Path, megabytes: int) -> dict[str, int]:
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "tests.support.little_memory", str(dump), f"{dump.parent}/lake"),
            str(megabytes),
        ],
        capture_output=True,
        timeout=300,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


@pytest.mark.parametrize("name", ["2018", "CSV"])
def test_a_field_that_no_memory_holds_is_one_bad_row(tmp_path: Path, name: str) -> None:
    before, behind, line = AROUND[name]
    head = 4 if name == "2018" else 5
    million = gzip.compress(b"x" * MEGABYTE)
    dump = tmp_path / "dump.gz"
    with dump.open("wb") as file:
        file.write(gzip.compress(b"".join(LINES[name][:head]) + before))
        file.writelines([million] * 600)
        file.write(gzip.compress(behind + b"".join(LINES[name][head:])))
    assert dump.stat().st_size < 2 * MEGABYTE
    # Unpacked and held twice, or as the four bytes a character of the csv module, it is too much.
    counts = group_in_little_memory(dump, 1_500)
    assert (counts["reviews_kept"], counts["quarantined"]) == (8, 1)
    lake = Lake.open(str(tmp_path / "lake"))
    record = current_grouped_reviews(lake)
    assert record is not None and record.quarantine_key is not None
    bad = QuarantinedRow.model_validate_json(lake.get(record.quarantine_key) or b"")
    assert (bad.line, bad.reason) == (line, "longer than 67,108,864 characters")


def test_a_block_of_line_ends_is_handed_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_MOST_LINES", 10)
    monkeypatch.setattr(readers, "BATCH_BYTES", 64)
    lines = [b"" if number % 3 else b"%d" % number for number in range(1, 1_000)]
    parts = list(readers._line_batches(io.BytesIO(b"\n".join(lines))))
    assert max(len(part) for part, _, _ in parts) == 10
    assert [line for part, _, _ in parts for line in part] == lines
    for part, first, bad in parts:
        assert part == lines[first - 1 :][: len(part)]
        assert not bad


def test_bad_rows_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BATCH_ROWS", 10)
    content = b"asin,text\n" + b"x\n" * 95
    parts = list(delimited.read_csv(io.BytesIO(content), ["asin", "text"]))
    assert [len(part.bad) for part in parts] == [10] * 9 + [5]
