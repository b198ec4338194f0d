"""A smoke test: the tests of the compute show that the emulator behaves as the service does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import boto3
import pytest

from tests.support.processing import processing_emulator
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


def start(script: str, hosts: int = 1) -> None:
    """Run a script from S3, with an input and an output."""
    s3 = boto3.client("s3")
    s3.put_object(Bucket="reviews", Key="data/part/a.txt", Body=b"good sound")
    body = (PRELUDE + textwrap.dedent(script)).encode()
    s3.put_object(Bucket="reviews", Key="code/main.py", Body=body)

    def place(name: str, **others: str) -> dict[str, str]:
        uri, local = f"s3://reviews/{name}", f"/opt/ml/processing/{name}"
        return {"S3Uri": uri, "LocalPath": local, **others}

    inputs = [place(name, S3DataType="S3Prefix", S3InputMode="File") for name in ("code", "data")]
    output = {"OutputName": "out", "S3Output": place("out", S3UploadMode="EndOfJob")}
    cluster = {"InstanceCount": hosts, "InstanceType": "ml.g5.12xlarge", "VolumeSizeInGB": 30}
    boto3.client("sagemaker").create_processing_job(
        ProcessingJobName="job-1",
        RoleArn="arn:aws:iam::123456789012:role/Processing",
        AppSpecification={
            "ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1",
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/code/main.py"],
        },
        ProcessingResources={"ClusterConfig": cluster},
        Environment={"ML": "/opt/ml"},
        ProcessingInputs=[{"InputName": f"in-{n}", "S3Input": s3} for n, s3 in enumerate(inputs)],
        ProcessingOutputConfig={"Outputs": [output]},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )


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


@pytest.mark.parametrize("isolated", [None, False])
def test_a_job_has_inputs_outputs_logs_and_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: bool | None
) -> None:
    with processing_emulator(tmp_path, isolated=isolated) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        start(WORKS, hosts=2)
        (record,) = emulator.jobs
        wait_until(lambda: record.ended is not None, "the job to end")
        assert (record.status, record.exit_codes) == ("Completed", [0, 0])
        described = boto3.client("sagemaker").describe_processing_job(ProcessingJobName="job-1")
        assert described["ProcessingJobStatus"] == "Completed"
        assert described["ExitMessage"] == "donedone"
        for host in ("algo-1", "algo-2"):
            found = boto3.client("s3").get_object(Bucket="reviews", Key=f"out/{host}.txt")
            assert found["Body"].read() == b"GOOD SOUND"
            assert f"ready on {host}" in printed(host)


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
