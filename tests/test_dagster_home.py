from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

OPEN = """
from reviewsum_assets.dagster_home import persistent_instance
with persistent_instance() as instance:
    instance.get_runs_count()
"""


def test_several_processes_can_set_up_one_home_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path / "home")}
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN], env=environment, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err.decode()
