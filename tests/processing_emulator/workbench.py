"""What the tests of the emulator work with: scripts on S3, jobs that run them, and clients."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.processing import JobRecord, ProcessingEmulator
from tests.support.waiting import wait_until

ROLE = "arn:aws:iam::123456789012:role/Processing"
# Where the machine cannot mount, texts of the request that begin with /opt/ml are rewritten, but
# scripts are not: they take the path from here.
ML = {"ML": "/opt/ml"}
_PRELUDE = "import os; from pathlib import Path; ML = Path(os.environ['ML'])\n"
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
# Clients that show the first answer, rather than try again.
_ONCE = Config(retries={"total_max_attempts": 1}, parameter_validation=False)


def code_input() -> dict[str, Any]:
    """The input that brings the script."""
    return s3_input("code", "s3://reviews/code/main.py")


def s3_input(name: str, uri: str, **fields: str) -> dict[str, Any]:
    """An input below /opt/ml/processing."""
    local = f"/opt/ml/processing/{name}"
    s3 = {"S3Uri": uri, "LocalPath": local, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    return {"InputName": name, "S3Input": {**s3, **fields}}


def s3_output(name: str, mode: str = "EndOfJob") -> dict[str, Any]:
    """An output below /opt/ml/processing, to ``s3://reviews/NAME``."""
    return {
        "OutputName": name,
        "S3Output": {
            "S3Uri": f"s3://reviews/{name}",
            "LocalPath": f"/opt/ml/processing/{name}",
            "S3UploadMode": mode,
        },
    }


def request(name: str = "job-1", hosts: int = 1, **fields: Any) -> dict[str, Any]:
    """A request that runs the script on S3."""
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {
            "ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1",
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/code/main.py"],
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": hosts,
                "InstanceType": "ml.g5.12xlarge",
                "VolumeSizeInGB": 30,
            }
        },
        "Environment": ML,
        "ProcessingInputs": [code_input()],
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **fields,
    }


class Workbench:
    """Clients of a running emulator, and the usual steps of a test."""

    def __init__(self, emulator: ProcessingEmulator) -> None:
        self.emulator = emulator
        self.sagemaker = self._client("sagemaker")
        self.logs = self._client("logs")
        self.s3 = self._client("s3")

    def put(self, key: str, text: str = "") -> None:
        """Write an object."""
        self.s3.put_object(Bucket="reviews", Key=key, Body=text.encode())

    def read(self, key: str) -> str:
        """Read an object."""
        body = self.s3.get_object(Bucket="reviews", Key=key)["Body"].read()
        return str(body.decode())

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of the bucket."""
        listed = self.s3.list_objects_v2(Bucket="reviews", Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]

    def start(self, script: str, name: str = "job-1", hosts: int = 1, **fields: Any) -> JobRecord:
        """Put the script on S3 and create a job that runs it; it has ``os``, ``Path``, ``ML``."""
        self.put("code/main.py", _PRELUDE + textwrap.dedent(script))
        self.sagemaker.create_processing_job(**request(name, hosts, **fields))
        return self.emulator.job(name)

    def run(self, script: str, name: str = "job-1", hosts: int = 1, **fields: Any) -> JobRecord:
        """Create a job and wait for its end."""
        self.start(script, name, hosts, **fields)
        return self.wait_for_end(name)

    def wait_for_end(self, name: str = "job-1") -> JobRecord:
        """Wait until a job has ended."""
        record = self.emulator.job(name)
        wait_until(lambda: record.ended is not None, "the job to end")
        return record

    def describe(self, name: str = "job-1") -> dict[str, Any]:
        """What the service tells of a job."""
        return dict(self.sagemaker.describe_processing_job(ProcessingJobName=name))

    def printed(self, name: str = "job-1", host: str = "algo-1") -> list[str]:
        """Lines in a host's log so far."""
        return printed(self.logs, name, host)

    def wait_until_printed(self, line: str, name: str = "job-1", host: str = "algo-1") -> None:
        """Wait for a line in a host's log."""
        wait_until(lambda: line in self.printed(name, host), f"{line!r} in the log of {host}")

    def refusal(self, call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
        """Code and message of the error that a call answers."""
        try:
            call(**parameters)
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["Error"]["Message"]
        raise AssertionError("the call was not refused")

    def _client(self, service: str) -> Any:
        environment = self.emulator.environment()
        return boto3.client(
            service,
            endpoint_url=self.emulator.url,
            region_name=environment["AWS_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            config=_ONCE,
        )


def printed(logs: Any, name: str = "job-1", host: str = "algo-1") -> list[str]:
    """Lines in a host's log so far, by boto3's client of the logs."""
    try:
        streams = logs.describe_log_streams(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/{host}-"
        )["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [
        event["message"]
        for stream in streams
        for event in logs.get_log_events(
            logGroupName=LOG_GROUP, logStreamName=stream["logStreamName"], startFromHead=True
        )["events"]
    ]


def processes_with(text: str) -> list[int]:
    """Ids of processes that have a text in their environment or command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in known:
            found.append(int(process.name))
    return found
