"""Creation, description, stop and end of jobs, as the API shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processing_emulator.workbench import (
    Workbench,
    processes_with,
    request,
    s3_output,
)
from tests.support.processing import ProcessingEmulator, processing_emulator
from tests.support.waiting import wait_until

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"

STOPS_GRACEFULLY = """
    import signal, sys, time
    def stop(number, frame):
        (ML / "processing/out/stopped.txt").write_text("in time")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    time.sleep(60)
"""

IGNORES_STOP = f"""
    import signal
    signal.signal(signal.SIGTERM, lambda *_: print("asked to stop", flush=True))
    {SLEEP}
    time.sleep(60)
"""


@pytest.fixture
def processing(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ProcessingEmulator]:
    """An emulator that has little patience, or as many seconds of it as a test names."""
    grace_seconds = getattr(request, "param", 0.5)
    with processing_emulator(tmp_path, grace_seconds=grace_seconds) as emulator:
        yield emulator


def test_a_job_is_in_progress_from_its_acceptance(bench: Workbench) -> None:
    bench.emulator.faults.slow_start(60)
    bench.start("")
    described = bench.describe()
    assert described["ProcessingJobStatus"] == "InProgress"
    assert "ProcessingStartTime" not in described
    assert "ProcessingEndTime" not in described


def test_a_job_is_described_as_it_was_requested(bench: Workbench) -> None:
    network = {
        "EnableInterContainerTrafficEncryption": True,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    }
    experiment = {"ExperimentName": "experiment", "RunName": "run"}
    record = bench.run("", NetworkConfig=network, ExperimentConfig=experiment)
    described = bench.describe()
    for name in (
        "ProcessingResources",
        "Environment",
        "StoppingCondition",
        "AppSpecification",
        "ExperimentConfig",
        "NetworkConfig",
        "ProcessingInputs",
        "RoleArn",
    ):
        assert described[name] == record.request[name]
    assert described["ProcessingJobArn"] == record.arn


def test_a_described_job_has_the_times_of_its_record(bench: Workbench) -> None:
    record = bench.run("import time; time.sleep(0.3)", hosts=2)
    described = bench.describe()
    assert record.started is not None
    assert record.ended is not None
    # Timestamps on the wire have seconds or milliseconds.
    assert described["CreationTime"].timestamp() == pytest.approx(record.created, abs=1)
    assert described["ProcessingStartTime"].timestamp() == pytest.approx(record.started, abs=1)
    assert described["ProcessingEndTime"].timestamp() == pytest.approx(record.ended, abs=1)
    assert record.billable_seconds == pytest.approx(2 * (record.ended - record.started))
    assert record.billable_seconds > 0.6


def test_tags_can_be_listed(bench: Workbench) -> None:
    tags = [{"Key": "team", "Value": "reviews"}]
    record = bench.start("", Tags=tags)
    assert bench.sagemaker.list_tags(ResourceArn=record.arn)["Tags"] == tags


def test_a_name_cannot_be_used_again(bench: Workbench) -> None:
    record = bench.run("")
    code, message = bench.refusal(bench.sagemaker.create_processing_job, **request())
    assert code == "ResourceInUse"
    assert message == (
        "Job name must be unique within an AWS account and region, and a job with this name "
        f"already exists ({record.arn})"
    )
    assert bench.emulator.jobs == [record]


@pytest.mark.parametrize("processing", [60.0], indirect=True, ids=["patient"])
def test_a_job_that_handles_the_signal_ends_in_its_own_way(bench: Workbench) -> None:
    record = bench.start(STOPS_GRACEFULLY, ProcessingOutputConfig={"Outputs": [s3_output("out")]})
    bench.wait_until_printed("ready")
    bench.sagemaker.stop_processing_job(ProcessingJobName="job-1")
    assert bench.describe()["ProcessingJobStatus"] in {"Stopping", "Stopped"}
    bench.wait_for_end()
    assert (record.status, record.exit_codes) == ("Stopped", [0])
    assert bench.read("out/stopped.txt") == "in time"


@pytest.mark.parametrize("processing", [5.0], indirect=True, ids=["time to print"])
def test_a_job_that_ignores_the_signal_is_killed_after_the_grace_period(bench: Workbench) -> None:
    record = bench.start(IGNORES_STOP)
    bench.wait_until_printed("ready")
    bench.sagemaker.stop_processing_job(ProcessingJobName="job-1")
    bench.wait_for_end()
    assert (record.status, record.exit_codes) == ("Stopped", [137])
    assert bench.printed() == ["ready", "asked to stop"]
    assert "FailureReason" not in bench.describe()


def test_a_job_can_be_stopped_before_its_hosts_are_up(bench: Workbench) -> None:
    bench.emulator.faults.slow_start(60)
    record = bench.start("")
    bench.sagemaker.stop_processing_job(ProcessingJobName="job-1")
    bench.wait_for_end()
    assert (record.status, record.started, record.billable_seconds) == ("Stopped", None, 0)


def test_a_job_that_has_ended_cannot_be_stopped(bench: Workbench) -> None:
    bench.run("")
    code, message = bench.refusal(bench.sagemaker.stop_processing_job, ProcessingJobName="job-1")
    assert code == "ValidationException"
    assert message == "The request was rejected because the processing job is in status Completed."


def test_a_job_that_does_not_exist_cannot_be_stopped(bench: Workbench) -> None:
    code, _ = bench.refusal(bench.sagemaker.stop_processing_job, ProcessingJobName="gone")
    assert code == "ValidationException"


def test_a_job_is_stopped_when_its_maximum_runtime_is_over(bench: Workbench) -> None:
    record = bench.run(SLEEP, StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert record.status == "Stopped"
    assert record.billable_seconds >= 1
    assert "FailureReason" not in bench.describe()


def test_time_before_the_start_does_not_count_as_runtime(bench: Workbench) -> None:
    # Stopped at once, and killed half a second later, it would not get its two seconds.
    bench.emulator.faults.slow_start(2.5)
    record = bench.run(SLEEP, StoppingCondition={"MaxRuntimeInSeconds": 2})
    assert record.status == "Stopped"
    assert record.billable_seconds >= 2


def test_a_killed_host_lets_the_others_end_first(bench: Workbench) -> None:
    record = bench.start(
        """
        import json, time
        resources = json.loads((ML / "config/resourceconfig.json").read_text())
        print("ready", flush=True)
        time.sleep(60 if resources["current_host"] == "algo-1" else 1.5)
        print("ended by itself")
        """,
        hosts=2,
    )
    bench.wait_until_printed("ready")
    bench.emulator.kill_host("job-1", 0)
    bench.wait_for_end()
    assert (record.status, record.exit_codes) == ("Failed", [137, 0])
    assert bench.printed(host="algo-1") == ["ready"]
    assert bench.printed(host="algo-2") == ["ready", "ended by itself"]


def test_jobs_are_remembered_in_order(bench: Workbench) -> None:
    for name in ("b", "a"):
        bench.start("", name)
    assert [job.name for job in bench.emulator.jobs] == ["b", "a"]
    listed = bench.sagemaker.list_processing_jobs()["ProcessingJobSummaries"]
    assert {job["ProcessingJobName"] for job in listed} == {"a", "b"}


def test_an_emulator_begins_without_the_state_of_the_one_before(tmp_path: Path) -> None:
    for number in (1, 2):
        with processing_emulator(tmp_path / str(number)) as emulator:
            bench = Workbench(emulator)
            assert bench.keys() == []
            assert bench.sagemaker.list_processing_jobs()["ProcessingJobSummaries"] == []
            bench.start("")


def test_closing_leaves_no_process_behind(tmp_path: Path) -> None:
    with processing_emulator(tmp_path) as emulator:
        bench = Workbench(emulator)
        bench.start(f"import subprocess; subprocess.Popen(['sleep', '61.5']); {SLEEP}", hosts=2)
        for host in ("algo-1", "algo-2"):
            bench.wait_until_printed("ready", host=host)
        assert processes_with(str(tmp_path))
    wait_until(lambda: not processes_with(str(tmp_path)), "all processes to die")
