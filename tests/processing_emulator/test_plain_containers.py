"""Containers on machines without private namespaces: paths of the request are rewritten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processing_emulator.test_life_of_a_job import STOPS_GRACEFULLY
from tests.processing_emulator.workbench import ML, Workbench, processes_with, s3_output
from tests.support.processing import ProcessingEmulator, processing_emulator
from tests.support.waiting import wait_until


@pytest.fixture
def processing(tmp_path: Path) -> Iterator[ProcessingEmulator]:
    """An emulator that does not isolate, even where it could, and has much patience."""
    with processing_emulator(tmp_path, isolated=False, grace_seconds=60) as emulator:
        yield emulator


def test_every_host_has_its_own_directory(bench: Workbench, tmp_path: Path) -> None:
    record = bench.run("print(ML)", hosts=2)
    assert record.status == "Completed"
    for host in ("algo-1", "algo-2"):
        assert bench.printed(host=host) == [str(tmp_path / "jobs" / "job-1" / host / "ml")]


def test_only_texts_that_begin_with_the_path_are_rewritten(bench: Workbench) -> None:
    bench.run(
        "print(os.environ['OTHER'])", Environment={**ML, "OTHER": "/opt/mlx:/opt/ml/processing"}
    )
    assert bench.printed() == ["/opt/mlx:/opt/ml/processing"]


def test_a_stop_reaches_the_entry_point(bench: Workbench) -> None:
    record = bench.start(STOPS_GRACEFULLY, ProcessingOutputConfig={"Outputs": [s3_output("out")]})
    bench.wait_until_printed("ready")
    bench.sagemaker.stop_processing_job(ProcessingJobName="job-1")
    bench.wait_for_end()
    assert (record.status, record.exit_codes) == ("Stopped", [0])
    assert bench.read("out/stopped.txt") == "in time"


def test_children_do_not_outlive_the_entry_point(bench: Workbench, tmp_path: Path) -> None:
    record = bench.run(
        "import subprocess; subprocess.Popen(['sleep', '62.5'])",
        Environment={**ML, "MARK": f"mark of {tmp_path}"},
    )
    assert record.status == "Completed"
    wait_until(lambda: not processes_with(f"mark of {tmp_path}"), "the child to die")


def test_a_missing_program_fails_the_job(bench: Workbench) -> None:
    app = {"ImageUri": "image", "ContainerEntrypoint": ["no-such-program"]}
    record = bench.run("", AppSpecification=app)
    assert (record.status, record.exit_codes) == ("Failed", [127])
