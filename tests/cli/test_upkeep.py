from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.cli.app import app
from reviewsum_assets.compute import Launch
from reviewsum_assets.compute.local import LocalCompute, LocalJob
from reviewsum_assets.job.spec import job_spec
from reviewsum_assets.lake_state import verify_lake
from reviewsum_assets.settings import EngineSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products, spread_out
from tests.support.held_jobs import HeldJob


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command keeps its runs."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REVIEWSUM_CHECKPOINT_SIZE", "4")
    return tmp_path / "home"


def reviewsum(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_lake_is_pruned_as_the_dry_run_says(lake: Lake, home: Path) -> None:
    spread_out(lake)
    foretold = reviewsum("prune", "--lake", lake.uri, "--older-than", "0", "--dry-run")
    assert require_plan(lake).retired
    assert not Path(lake.uri, places.PROCESSING_JOBS).exists()
    done = reviewsum("prune", "--lake", lake.uri, "--older-than", "0")
    assert set(foretold["keys"]) <= set(done["keys"])
    assert done["retired_checkpoints"] == [1]
    assert done["removed"]["checkpoints"]["objects"] == 3
    assert not require_plan(lake).retired
    assert verify_lake(lake) == []


def test_nothing_is_removed_while_a_job_runs_on_this_machine(lake: Lake) -> None:
    plan = spread_out(lake)
    spec = job_spec(plan, plan.checkpoints, lake=lake.uri, engine=EngineSettings())
    job = LocalCompute(lake).start(spec, Launch())
    assert isinstance(job, LocalJob)
    held = HeldJob.of(job)
    os.killpg(held.group, signal.SIGSTOP)
    try:
        result = CliRunner().invoke(app, ["prune", "--lake", lake.uri, "--older-than", "0"])
    finally:
        held.kill()
    assert result.exit_code == 1
    assert f"a job may be running, and may need what is to be removed: {job.spec.name}" in str(
        result.exception
    )
    assert require_plan(lake) == plan


def test_reconcile_prints_what_it_adopted_and_what_failed(lake: Lake, home: Path) -> None:
    complete(lake, plan_products(lake, products(4), checkpoint_size=2).plan)
    adopted = CliRunner().invoke(app, ["reconcile", "--lake", lake.uri], catch_exceptions=False)
    assert "2 checkpoints adopted: checkpoint_00001, checkpoint_00002" in adopted.stdout
    lake.delete(places.checkpoint_csv(2))
    result = reviewsum("reconcile", "--lake", lake.uri)
    assert (result["did_nothing"], result["adopted"]) == (False, [])
    assert result["failed"] == {"checkpoint_00002": "the manifest is there, its CSV is not"}
