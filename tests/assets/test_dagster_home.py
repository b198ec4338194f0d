from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reviewsum_assets.assets.dagster_home import prepare_home
from reviewsum_assets.cli.app import app
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products, products

OPEN = """
from reviewsum_assets.assets.dagster_home import persistent_instance
with persistent_instance() as instance:
    instance.get_runs_count()
"""


def test_several_processes_can_set_up_one_home_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path / "home")}
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN], env=environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err.decode()


def test_a_kill_while_a_home_is_made_leaves_no_half_of_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))

    def killed(path: Path, text: str, **_: str) -> None:
        path.open("w").close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "write_text", killed)
        prepare_home()
    assert "pools:" in (prepare_home() / "dagster.yaml").read_text()


def test_a_home_that_was_used_for_another_lake_causes_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    lakes = [Lake.open(str(tmp_path / name)) for name in ("one", "two")]
    for lake in lakes:
        plan_products(lake, products(2))
    one, two = (lake.uri for lake in lakes)
    assert "warning" not in reconcile(one) + reconcile(one)
    assert f"this Dagster home was used for another lake, {one}" in reconcile(two)
    assert "warning" not in reconcile(two)
    run = CliRunner().invoke(app, ["run", "--lake", one, "--compute", "sagemaker"])
    assert f"used for another lake, {two}" in run.stderr and "DAGSTER_HOME" in run.stderr


def test_a_wrong_call_makes_neither_lake_nor_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    call = ["run", "--lake", str(tmp_path / "lake"), "--top-k", "0"]
    assert isinstance(CliRunner().invoke(app, call).exception, SettingsError)
    assert list(tmp_path.iterdir()) == []


def reconcile(lake: str) -> str:
    """What ``reviewsum reconcile`` says on standard error."""
    result = CliRunner().invoke(app, ["reconcile", "--lake", lake], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stderr
