"""An object of the lake is damaged or gone: every command that reads it says so in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from reviewsum_assets.cli.app import app
from reviewsum_assets.errors import ReviewsumError
from reviewsum_assets.storage.tables import as_parquet
from tests.faults.test_changed_bytes import keys
from tests.support.worlds import World

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "holed": lambda content: content[:30] + bytes(len(content) // 4) + content[len(content) // 3 :],
    "another table": lambda content: as_parquet(pl.DataFrame({"product_id": [1]})),
    "gone": lambda content: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_command_shows_a_traceback(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    lake = world.lake
    merged = world.merged or b""
    products = [line.split(b",")[0].decode() for line in merged.splitlines()[1:]]
    references = tmp_path / "references.csv"
    rows = [f"{product},a reference,another one" for product in products]
    references.write_text("\n".join(["product_id,reference_1,reference_2", *rows]))
    monkeypatch.setenv("REVIEWSUM_LAKE", lake.uri)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    calls = [
        *(["status"], ["verify"], ["estimate"], ["prune", "--dry-run"]),
        *(["explain", product] for product in (products[-1], "unknown")),
        ["evaluate", "--references", str(references)],
        ["report", "--output", str(tmp_path / "report.html")],
    ]
    found = []
    # One of each kind: the first and the last checkpoint are damaged alike.
    kinds = {(key.rpartition("/")[0], Path(key).suffix): key for key in keys(lake)}
    for key in kinds.values():
        before = lake.get(key)
        assert before is not None
        damaged = DAMAGES[damage](before)
        lake.delete(key)
        if damaged is not None:
            lake.put(key, damaged)
        for call in calls:
            ended = CliRunner().invoke(app, [*call, "--json"]).exception
            if not isinstance(ended, ReviewsumError | SystemExit | None):
                found.append((key, call, repr(ended)[:300]))
        lake.put(key, before)
    assert not found, "\n".join(map(str, found))
