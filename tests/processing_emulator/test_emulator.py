"""A smoke test: the tests of the compute show that the emulator behaves as the service does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.processing import JobRecord, ProcessingEmulator, processing_emulator
from tests.support.processing.isolation import machine_isolates
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
# Without private namespaces texts of the request that begin with /opt/ml are rewritten, but scripts
# are not: they take the path from here.
PRELUDE = "import os; from pathlib import Path; ML = Path(os.environ['ML'])\n"
WORKS = """
    import json
    resources = json.loads((ML / "config/resourceconfig.json").read_text())
    host = resources["current_host"]
    text = (ML / "processing/data/part/a.txt").read_text()
    (ML / "processing/out" / f"{host}.txt").write_text(text.upper())
    (ML / "output/message").write_text("done")
    print("ready on", host)
"""
STOPS_GRACEFULLY = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("ready", flush=True)
    time.sleep(60)
"""
TOO_MANY: dict[str, Any] = {"Tags": [{"Key": str(number), "Value": ""} for number in range(51)]}
IGNORES_STOP = STOPS_GRACEFULLY.replace("sys.exit(7)", "None")


def request(hosts: int = 1, **fields: Any) -> dict[str, Any]:
    """A request that runs the script on S3."""

    def s3_input(name: str) -> dict[str, Any]:
        uri, local = f"s3://reviews/{name}/", f"/opt/ml/processing/{name}"
        s3 = {"S3Uri": uri, "LocalPath": local, "S3DataType": "S3Prefix", "S3InputMode": "File"}
        return {"InputName": name, "S3Input": s3}

    out = {"S3Uri": "s3://reviews/out", "LocalPath": "/opt/ml/processing/out"}
    output = {"OutputName": "out", "S3Output": {**out, "S3UploadMode": "EndOfJob"}}
    cluster = {"InstanceCount": hosts, "InstanceType": "ml.g5.12xlarge", "VolumeSizeInGB": 30}
    return {
        "ProcessingJobName": "job-1",
        "RoleArn": "arn:aws:iam::123456789012:role/Processing",
        "AppSpecification": {
            "ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1",
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/code/main.py"],
        },
        "ProcessingResources": {"ClusterConfig": cluster},
        "Environment": {"ML": "/opt/ml"},
        "ProcessingInputs": [s3_input("code"), s3_input("data")],
        "ProcessingOutputConfig": {"Outputs": [output]},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **fields,
    }


def start(script: str, hosts: int = 1, **fields: Any) -> None:
    s3 = boto3.client("s3")
    s3.put_object(Bucket="reviews", Key="data/part/a.txt", Body=b"good sound")
    body = (PRELUDE + textwrap.dedent(script)).encode()
    s3.put_object(Bucket="reviews", Key="code/main.py", Body=body)
    boto3.client("sagemaker").create_processing_job(**request(hosts, **fields))


def ended(processing: ProcessingEmulator) -> JobRecord:
    (record,) = processing.jobs
    wait_until(lambda: record.ended is not None, "the job to end")
    return record


def printed(host: str = "algo-1") -> list[str]:
    """Lines in a host's log so far."""
    logs = boto3.client("logs")
    try:
        found = logs.describe_log_streams(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"job-1/{host}-"
        )["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    names = [stream["logStreamName"] for stream in found]
    pages = [logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=name) for name in names]
    return [event["message"] for page in pages for event in page["events"]]


def processes_with(text: str) -> bool:
    """Whether a process has a text in its environment or command line."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in known:
            return True
    return False


@pytest.fixture(params=["isolated", "plain"])
def emulator(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ProcessingEmulator]:
    """An emulator of each kind of container, which waits two seconds before it kills."""
    isolated = False if request.param == "plain" else None
    with processing_emulator(tmp_path, grace_seconds=2, isolated=isolated) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator


def test_a_job_has_inputs_outputs_logs_and_a_message(emulator: ProcessingEmulator) -> None:
    start(WORKS, hosts=2)
    record = ended(emulator)
    assert (record.status, record.exit_codes) == ("Completed", [0, 0])
    described = boto3.client("sagemaker").describe_processing_job(ProcessingJobName="job-1")
    assert described["ProcessingJobStatus"] == "Completed"
    assert described["ExitMessage"] == "donedone"
    assert described["Environment"] == {"ML": "/opt/ml"}
    for host in ("algo-1", "algo-2"):
        found = boto3.client("s3").get_object(Bucket="reviews", Key=f"out/{host}.txt")
        assert found["Body"].read() == b"GOOD SOUND"
        assert f"ready on {host}" in printed(host)


def test_an_exit_code_fails_the_job_and_a_killed_host_lets_the_others_end(
    emulator: ProcessingEmulator,
) -> None:
    start(WORKS.replace("text =", "while host == 'algo-1': pass\n    text ="), hosts=2)
    wait_until(lambda: "ready on algo-2" in printed("algo-2"), "the other host to work")
    emulator.kill_host("job-1", 0)
    record = ended(emulator)
    assert (record.status, record.exit_codes) == ("Failed", [137, 0])
    assert "exit code: 137" in str(record.failure_reason)


@pytest.mark.parametrize(("script", "code"), [(STOPS_GRACEFULLY, 7), (IGNORES_STOP, 137)])
def test_a_stopped_job_gets_sigterm_then_sigkill(
    emulator: ProcessingEmulator, script: str, code: int
) -> None:
    start(script)
    wait_until(lambda: "ready" in printed(), "the job to run")
    boto3.client("sagemaker").stop_processing_job(ProcessingJobName="job-1")
    record = ended(emulator)
    assert (record.status, record.exit_codes) == ("Stopped", [code])


def test_a_taken_name_and_a_broken_limit_are_refused(emulator: ProcessingEmulator) -> None:
    start("")
    ended(emulator)
    once = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    client = boto3.client("sagemaker", config=once)
    for changes, code in (({}, "ResourceInUse"), (TOO_MANY, "ValidationException")):
        with pytest.raises(ClientError, match=code):
            client.create_processing_job(**request(**changes))


def test_closing_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with processing_emulator(tmp_path) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        start(f"import subprocess; subprocess.Popen(['sleep', '61.5'])\n{STOPS_GRACEFULLY}")
        wait_until(lambda: processes_with(f"{tmp_path}/jobs"), "the container to start")
    wait_until(lambda: not processes_with(f"{tmp_path}/jobs"), "all processes to die")


def test_it_can_be_started_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "tests.support.processing", "--port", "0", "--work"]
    with subprocess.Popen(
        [*command, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in iter(process.stdout.readline, ""):
            if variable := re.match(r"export (\w+)=(\S+)", line):
                monkeypatch.setenv(*variable.groups())
            elif "bucket" in line:
                break
        start(STOPS_GRACEFULLY)
        wait_until(lambda: "ready" in printed(), "the job to run")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
    if machine_isolates():
        wait_until(lambda: not processes_with(f"{tmp_path}/jobs"), "the container to die")
