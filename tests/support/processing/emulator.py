"""The emulator as tests use it."""

from __future__ import annotations

import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processing.api import ProcessingApi
from tests.support.processing.containers import ContainerStarter
from tests.support.processing.faults import Faults
from tests.support.processing.isolation import machine_isolates
from tests.support.processing.jobs import Surroundings
from tests.support.processing.platform import platform_client
from tests.support.processing.records import REGION, ApiCall, JobRecord
from tests.support.processing.server import CLIENT_KEY, CONTAINER_KEY, Endpoint, Server


class ProcessingEmulator:
    """A running emulator: its address, the calls it received, and the faults to come."""

    bucket = "reviews"

    def __init__(self, url: str, endpoint: Endpoint, api: ProcessingApi, faults: Faults) -> None:
        self.url = url
        self.faults = faults
        self._endpoint = endpoint
        self._api = api

    def environment(self) -> dict[str, str]:
        """Environment variables for any process that uses the emulator."""
        return aws_environment(self.url, CLIENT_KEY)

    def set_quota(self, instance_type: str, instances: int) -> None:
        """Set the number of instances of a type that the account may run for Processing."""
        name = f"{instance_type} for processing job usage"
        self._endpoint.quotas = [
            *(self._endpoint.quotas or []),
            {"ServiceCode": "sagemaker", "QuotaName": name, "Value": float(instances)},
        ]

    @property
    def jobs(self) -> list[JobRecord]:
        """Every accepted CreateProcessingJob, in order."""
        return self._api.records

    @property
    def calls(self) -> list[ApiCall]:
        """Every call received so far, but those the service itself makes for a job."""
        return list(self._endpoint.calls)

    def kill_host(self, name: str, host: int) -> None:
        """Kill the container on a job's host, counted from 0, with SIGKILL.

        LookupError if it has not started.
        """
        self._api.kill_host(name, host)


@contextmanager
def processing_emulator(
    work: Path,
    *,
    grace_seconds: float = 5.0,
    port: int = 0,
    isolated: bool | None = None,
    python: str = sys.executable,
) -> Iterator[ProcessingEmulator]:
    """Run an emulator whose jobs live in directories below ``work``.

    ``grace_seconds`` lie between SIGTERM and SIGKILL of a job that is stopped; the service's own
    number is not documented. ``isolated`` is detected if it is not given. ``python`` is the
    interpreter of the containers. One process can have one emulator at a time, because moto keeps
    its state in globals.
    """
    faults = Faults()
    endpoint = Endpoint(faults)
    server = Server(endpoint, port)
    try:
        _reset(server.url)
        here = _surroundings(work, server.url, grace_seconds, isolated, python)
        api = ProcessingApi(here, faults)
        endpoint.api = api
        try:
            yield ProcessingEmulator(server.url, endpoint, api, faults)
        finally:
            api.close()
    finally:
        server.stop()


def aws_environment(url: str, access_key: str) -> dict[str, str]:
    """Environment variables of AWS clients."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def _surroundings(
    work: Path, url: str, grace_seconds: float, isolated: bool | None, python: str
) -> Surroundings:
    jobs = work / "jobs"
    shutil.rmtree(jobs, ignore_errors=True)
    starter = ContainerStarter(
        work / "programs",
        aws_environment(url, CONTAINER_KEY),
        platform_client("logs", url),
        isolated=machine_isolates() if isolated is None else isolated,
        python=python,
    )
    return Surroundings(jobs, platform_client("s3", url), starter, grace_seconds)


def _reset(url: str) -> None:
    urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()
    platform_client("s3", url).create_bucket(Bucket=ProcessingEmulator.bucket)
