from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from reviewsum_assets import places
from reviewsum_assets.assets.checkpoint_plan import checkpoint_partitions
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.checkpoints.status import verify_lake
from reviewsum_assets.cli import app
from reviewsum_assets.compute import Launch
from reviewsum_assets.compute.local import LocalCompute, LocalJob
from reviewsum_assets.job.spec import job_spec
from reviewsum_assets.lake import Lake
from reviewsum_assets.settings import EngineSettings
from tests.checkpoints.test_repack import spread_out
from tests.support.checkpoints import complete, plan_products, products
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


def test_a_lake_is_packed_and_pruned_and_dagster_shows_what_is_left(lake: Lake, home: Path) -> None:
    spread_out(lake)
    packed = reviewsum("repack", "--lake", lake.uri, "--below", "0.6")
    assert (packed["packed"], packed["into"]) == ([3, 4, 5, 6, 7, 8], [9, 10])
    with dg.DagsterInstance.from_config(str(home)) as instance:
        keys = ["checkpoint_00002", "checkpoint_00009", "checkpoint_00010"]
        assert instance.get_dynamic_partitions("checkpoints") == keys
        statuses = instance.get_status_by_partition(
            dg.AssetKey("chunk_summaries"), keys, checkpoint_partitions
        )
        assert set((statuses or {}).values()) == {dg.AssetPartitionStatus.MATERIALIZED}

    told = reviewsum("prune", "--lake", lake.uri, "--older-than", "0", "--dry-run")
    assert require_plan(lake).retired
    done = reviewsum("prune", "--lake", lake.uri, "--older-than", "0")
    assert set(told["keys"]) < set(done["keys"])
    assert done["retired_checkpoints"] == [1, 3, 4, 5, 6, 7, 8]
    assert done["removed"]["checkpoints"]["objects"] == 21
    assert not require_plan(lake).retired
    assert verify_lake(lake)[0].startswith("merged_summaries was made for plan")


def test_a_lake_on_which_packing_would_save_nothing_is_left_and_told(lake: Lake) -> None:
    complete(lake, plan_products(lake, products(2)).plan)
    result = CliRunner().invoke(app, ["repack", "--lake", lake.uri])
    assert result.stdout == "nothing to pack: it would not leave fewer checkpoints\n"


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


def test_a_dry_run_makes_no_folder_for_jobs(lake: Lake) -> None:
    spread_out(lake)
    reviewsum("prune", "--lake", lake.uri, "--dry-run")
    assert not Path(lake.uri, places.PROCESSING_JOBS).exists()


def test_a_lake_that_is_not_there_cannot_be_pruned(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prune", "--lake", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert "does not exist" in str(result.exception)
