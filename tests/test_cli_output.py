from __future__ import annotations

import io

import pytest
from rich.table import Table

from reviewsum_assets import cli_output


@pytest.mark.parametrize("on_terminal", [True, False])
def test_what_dumps_bring_does_not_steer_a_terminal(on_terminal: bool) -> None:
    name = "B\x1b]0;title\x07\x1b[2J\x9b31m"
    table = Table(name)
    table.add_row(name)
    out = cli_output._Console(
        file=io.StringIO(), force_terminal=on_terminal, color_system=None, width=200
    )
    for shown in (name, table):
        out.print(shown, markup=False, highlight=False)
    told = out.file.getvalue()  # type: ignore[attr-defined]  # it is the one above
    assert told.count(r"B\x1b]0;title\x07\x1b[2J\x9b31m") == 3
    assert not set(told) & {"\x1b", "\x07", "\x9b"}
