"""Small jobs on real models, each a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.job.progress import JobResult, read_result
from reviewsum_assets.job.spec import JobSpec, job_spec
from reviewsum_assets.lake_state import lake_status
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products

TEXT = "The battery life is excellent, the screen is bright, but the sound of {} is poor."
FAST: dict[str, Any] = {"max_length": 16, "min_length": 4}


def texts(count: int) -> dict[str, str]:
    """Texts of so many products."""
    return {f"P{n:03d}": TEXT.format(n) for n in range(count)}


def spec_for(
    lake: Lake, model: Path, products: Mapping[str, str], **options: object
) -> tuple[Plan, JobSpec]:
    """A plan of four products a checkpoint, and a job for all of it."""
    settings = load_settings(model=str(model), checkpoint_size=4, device="cpu", **FAST, **options)
    ready, _ = ready_model(lake, settings)
    if settings.engine != "transformers":
        ensure_converted(lake, ready)
    plan = plan_products(lake, products, model=ready.version, checkpoint_size=4, **FAST).plan
    spec = job_spec(plan, plan.checkpoints, lake=lake.uri, engine=settings.engine_settings())
    return plan, spec


def start(spec: JobSpec, directory: Path) -> subprocess.Popen[bytes]:
    """Start a job as a process; the spec is written to ``directory``."""
    path = directory / "spec.json"
    path.write_text(spec.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-m", "reviewsum_assets.job.run_processing", "--spec", str(path)],
        stderr=subprocess.PIPE,
    )


def run(spec: JobSpec, directory: Path) -> tuple[int, str]:
    """Run a job as a process; its exit code and log."""
    process = start(spec, directory)
    _, log = process.communicate(timeout=120)
    return process.returncode, log.decode()


def result(lake: Lake, spec: JobSpec) -> JobResult:
    """What the job wrote when it ended."""
    found = read_result(lake, spec.name)
    assert found is not None
    return found


def incomplete(lake: Lake) -> list[int]:
    """Numbers of the checkpoints that are not valid."""
    status = lake_status(lake)
    assert status is not None
    return [state.planned.number for state in status.incomplete]
