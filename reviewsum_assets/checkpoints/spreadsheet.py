"""The merged table for spreadsheets, which take a cell that begins like a formula for one.

What a review or a product id says would then be executed by whoever opens the table. So such a
cell gets an apostrophe in front, as OWASP advises:
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from reviewsum_assets.checkpoints.files import COLUMNS, read_rows

# Some spreadsheets take the signs of full width for the others, and leave out spaces before them.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")  # noqa: RUF001 - meant as they are


def as_text(cell: str) -> str:
    """A cell's content as no spreadsheet takes it for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def write_spreadsheet(merged_csv: Path, path: Path) -> None:
    """Write the merged CSV anew, with texts quoted and without formulas.

    It begins with a byte order mark, without which Excel takes UTF-8 for something else.
    """
    with (
        merged_csv.open(encoding="utf-8", newline="") as source,
        path.open("w", encoding="utf-8-sig", newline="") as target,
    ):
        writer = csv.writer(target, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(COLUMNS)
        for row in read_rows(source):
            writer.writerow(
                (as_text(row.product_id), as_text(row.abstracted_summary), row.review_count)
            )
