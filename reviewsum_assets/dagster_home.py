"""The persistent Dagster instance: where runs and partition states are kept between calls."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

DEFAULT_HOME = ".dagster_home"

# Written once into a new home; from then on it is the user's to change.
_NEW_HOME_CONFIG = """\
telemetry:
  enabled: false
# No first-visit dialog over the page.
nux:
  enabled: false
# Whole runs wait their turn for the GPU, not steps within them.
concurrency:
  pools:
    granularity: run
# A run whose process died is noticed. It is not resumed: the next one picks up its checkpoints.
run_monitoring:
  enabled: true
  max_resume_run_attempts: 0
"""
_PID_TAG, _HOST_TAG = "reviewsum/pid", "reviewsum/host"


@contextmanager
def persistent_instance() -> Iterator[dg.DagsterInstance]:
    """The instance at ``DAGSTER_HOME``, or at ``.dagster_home`` in the working directory.

    Runs of the command line whose process is gone are marked as failed first, so that no page
    shows them as running for ever.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or DEFAULT_HOME).absolute()
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_NEW_HOME_CONFIG)
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.get() as instance:
        _fail_orphans(instance)
        yield instance


def run_tags() -> dict[str, str]:
    """Tags by which a run of this process is found again."""
    return {_PID_TAG: str(os.getpid()), _HOST_TAG: socket.gethostname()}


def _fail_orphans(instance: dg.DagsterInstance) -> None:
    running = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED],
        tags={_HOST_TAG: socket.gethostname()},
    )
    for run in instance.get_runs(running):
        if not _is_alive(int(run.tags[_PID_TAG])):
            instance.report_run_failed(run, "its process ended without reporting an end")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
