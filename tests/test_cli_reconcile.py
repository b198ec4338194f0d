from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products


def reconcile(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """``reviewsum reconcile`` as a process, on the lake and the Dagster home of a folder."""
    script = Path(sys.executable).with_name("reviewsum")
    call = [str(script), "reconcile", "--lake", str(folder / "lake"), *arguments]
    done = subprocess.run(
        call, cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def test_reconcile_prints_what_it_adopted_and_what_failed(lake: Lake, tmp_path: Path) -> None:
    complete(lake, plan_products(lake, products(4), checkpoint_size=2).plan)
    code, out, _ = reconcile(tmp_path)
    assert code == 0
    assert "2 checkpoints adopted: checkpoint_00001, checkpoint_00002" in out
    lake.delete(places.checkpoint_csv(2))
    code, out, _ = reconcile(tmp_path, "--json")
    result = json.loads(out)
    assert (code, result["did_nothing"], result["adopted"]) == (0, False, [])
    assert result["failed"] == {"checkpoint_00002": "the manifest is there, its CSV is not"}
