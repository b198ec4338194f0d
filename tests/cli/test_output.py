from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.cli import output
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products

# Each call in one process, as the console script makes it; a traceback ends the process.
CALLS = """
import json, sys
from reviewsum_assets.cli.app import main
for call in json.load(sys.stdin):
    sys.argv = ["reviewsum", *call]
    try:
        main()
    except SystemExit as ended:
        sys.stdout.write(f"ended {ended.code}\\n")
"""


@pytest.mark.parametrize("on_terminal", [True, False])
def test_text_of_dumps_does_not_control_a_terminal(on_terminal: bool) -> None:
    name = "B\x1b]0;title\x07\x1b[2J\x9b31m"
    table = Table(name)
    table.add_row(name)
    out = output._Console(
        file=io.StringIO(), force_terminal=on_terminal, color_system=None, width=200
    )
    for value in (name, table):
        out.print(value, markup=False, highlight=False)
    shown = out.file.getvalue()  # type: ignore[attr-defined]  # it is the one above
    assert shown.count(r"B\x1b]0;title\x07\x1b[2J\x9b31m") == 3
    assert not set(shown) & {"\x1b", "\x07", "\x9b"}


def test_every_output_survives_a_terminal_of_ascii(lake: Lake, tmp_path: Path) -> None:
    encoding = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    plan = plan_products(lake, {"Büro-☃": "Schön, täglich 10 € wert … 😀", "other": "plain"}).plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    references = tmp_path / "references.csv"
    references.write_text("product_id,reference_1\nBüro-☃,fine\nother,plain\n", encoding="utf-8")
    judged = ["evaluate", "--references", str(references), "--lake", f"größte={lake.uri}"]
    read = ["status", "verify", "estimate", "prune --dry-run", "reconcile", "repack", "doctor"]
    calls = [
        *([*call.split(), "--lake", lake.uri] for call in read),
        ["explain", "Büro-☃", "--lake", lake.uri],
        ["explain", "unbekannt-☃", "--lake", lake.uri],
        judged,
        ["report", "--lake", lake.uri],
        ["bench", "--help"],
    ]
    calls = [*calls, *([*call, "--json"] for call in calls)]
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        input=json.dumps(calls),
        env={**os.environ, **encoding, "DAGSTER_HOME": str(tmp_path / "home"), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        encoding="ascii",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("ended ") == len(calls)
    assert "B\\xfcro-\\u2603" in done.stdout, "for people"
    assert '"B\\u00fcro-\\u2603"' in done.stdout, "as JSON"
