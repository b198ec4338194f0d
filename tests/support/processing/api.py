"""Answers CreateProcessingJob and StopProcessingJob; the rest of SageMaker is moto's."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from werkzeug.wrappers import Request, Response

from tests.support.processing.answers import json_answer, json_error
from tests.support.processing.faults import Faults
from tests.support.processing.jobs import JobRun, Surroundings
from tests.support.processing.records import JobRecord, publish
from tests.support.processing.requests import InvalidRequestError, check_request

_LOG = logging.getLogger(__name__)


class ProcessingApi:
    """Accepts, runs and stops jobs, and keeps all their records."""

    def __init__(self, surroundings: Surroundings, faults: Faults) -> None:
        self._surroundings = surroundings
        self._faults = faults
        self._accepting = threading.Lock()
        self._closed = False
        self._records: dict[str, JobRecord] = {}
        self._runs: dict[str, JobRun] = {}

    @property
    def records(self) -> list[JobRecord]:
        """Every accepted job, in order."""
        return list(self._records.values())

    def kill_host(self, name: str, host: int) -> None:
        """Kill the container on a host, counted from 0."""
        self._runs[name].containers[host].kill()

    def close(self) -> None:
        """Kill all containers; accept no more jobs."""
        with self._accepting:
            self._closed = True
        for run in self._runs.values():
            run.abandon()

    def answer(self, action: str, request: Request) -> Response | None:
        """Answer a SageMaker call, if it is one of those that moto does not answer."""
        if action == "CreateProcessingJob":
            return self._create(json.loads(request.get_data()))
        if action == "StopProcessingJob":
            return self._stop(json.loads(request.get_data()))
        return None

    def _create(self, request: dict[str, Any]) -> Response:
        try:
            check_request(request)
        except InvalidRequestError as error:
            return json_error("ValidationException", str(error))
        with self._accepting:
            if self._closed:
                return json_error("ServiceUnavailable", "The emulator is closing")
            existing = self._records.get(request["ProcessingJobName"])
            if existing is not None:
                return _in_use(existing)
            if self._faults.take("quota exceeded"):
                return _quota_exceeded(request)
            return json_answer({"ProcessingJobArn": self._accept(request).arn})

    def _accept(self, request: dict[str, Any]) -> JobRecord:
        record = JobRecord(request["ProcessingJobName"], request)
        publish(record)
        run = JobRun(record, self._faults, self._surroundings)
        self._records[record.name] = record
        self._runs[record.name] = run
        _LOG.info("job %s: status=%s", record.name, record.status)
        run.start()
        return record

    def _stop(self, request: dict[str, Any]) -> Response:
        name = request.get("ProcessingJobName", "")
        run = self._runs.get(name)
        if run is None:
            return json_error("ValidationException", f"Could not find requested job: {name}")
        if run.request_stop():
            return json_answer({})
        status = self._records[name].status
        return json_error(
            "ValidationException",
            f"The request was rejected because the processing job is in status {status}.",
        )


def _in_use(record: JobRecord) -> Response:
    return json_error(
        "ResourceInUse",
        "Job name must be unique within an AWS account and region, and a job with this name "
        f"already exists ({record.arn})",
    )


def _quota_exceeded(request: dict[str, Any]) -> Response:
    cluster = request["ProcessingResources"]["ClusterConfig"]
    preferences = cluster.get("InstancePreferences", [{}])
    kind = cluster.get("InstanceType") or preferences[0].get("InstanceType")
    return json_error(
        "ResourceLimitExceeded",
        f"The account-level service limit '{kind} for processing job usage' is 0 Instances, with "
        "current utilization of 0 Instances and a request delta of "
        f"{cluster.get('InstanceCount', 1)} Instances. Please use AWS Service Quotas to request "
        "an increase for this quota. If AWS Service Quotas is not available, contact AWS support "
        "to request an increase for this quota.",
    )
