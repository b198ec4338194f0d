"""Pipelines whose jobs run on the SageMaker Processing emulator, and orchestrators to kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import SmallPipeline
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import planned_pipeline

Planned = Callable[..., SmallPipeline]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory: no other process of these tests uses it."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def planned(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> Planned:
    """Plans a number of products, two per checkpoint, with the given settings."""

    def plan(products: int = 4, **settings: Any) -> SmallPipeline:
        return planned_pipeline(processing, instance, pegasus, tmp_path, products, **settings)

    return plan


@pytest.fixture
def small(planned: Planned) -> SmallPipeline:
    """Two checkpoints, planned."""
    return planned()


@dataclass
class Orchestrator:
    """``reviewsum run`` in a process of its own, on a host of its own."""

    folder: Path
    model: Path
    lake: Lake
    dump: Path
    settings: dict[str, str]

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, with its own home and temporary folder."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        places = {"TMPDIR": self.folder / "tmp", "DAGSTER_HOME": self.folder / "home"}
        settings = {
            "lake": self.lake.uri,
            "device": "cpu",
            "max_length": "16",
            "min_length": "4",
            "workers": "1",
            "checkpoint_size": "2",
            **self.settings,
        }
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("reviewsum")),
                    *("run", "--dump", str(self.dump), "--model", str(self.model)),
                ],
                cwd=self.folder,
                env={
                    **os.environ,
                    **{name: str(place) for name, place in places.items()},
                    **{f"REVIEWSUM_{name.upper()}": value for name, value in settings.items()},
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, process: subprocess.Popen[bytes] | None = None, code: int = 0) -> None:
        """Wait until it ends with this code."""
        process = process or self.start()
        assert process.wait(timeout=600) == code, self.output.read_text()

    @property
    def output(self) -> Path:
        """Everything it printed."""
        return self.folder / "output"
