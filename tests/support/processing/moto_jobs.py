"""How a job appears in moto, which answers Describe, List and ListTags of it.

moto dumps every attribute of its job into the answer of DescribeProcessingJob. So everything the
service would tell is put there, and nothing else: the emulator keeps its own state in JobRecord.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from moto.sagemaker.models import FakeProcessingJob, sagemaker_backends

from tests.support.processing.records import ACCOUNT, REGION, JobRecord


def publish(record: JobRecord) -> None:
    """Let moto tell the record's present state. The job appears complete, or not at all."""
    jobs = sagemaker_backends[ACCOUNT][REGION].processing_jobs
    job = jobs.get(record.name) or _new_job(record)
    job.last_modified_time = datetime.now(timezone.utc)
    job.processing_start_time = _time(record.started)
    job.processing_end_time = _time(record.ended)
    job.failure_reason = record.failure_reason
    job.exit_message = record.exit_message
    # The status last: who sees the end also sees its reason.
    job.processing_job_status = record.status
    jobs[record.name] = job


def _new_job(record: JobRecord) -> Any:
    request = record.request
    job = FakeProcessingJob(
        app_specification=request["AppSpecification"],
        experiment_config=request.get("ExperimentConfig"),
        network_config=request.get("NetworkConfig"),
        processing_inputs=request.get("ProcessingInputs"),
        processing_job_name=record.name,
        processing_output_config=request.get("ProcessingOutputConfig"),
        account_id=ACCOUNT,
        region_name=REGION,
        role_arn=request["RoleArn"],
        tags=list(request.get("Tags", [])),
        stopping_condition=request.get("StoppingCondition"),
    )
    job.processing_resources = request["ProcessingResources"]
    job.environment = request.get("Environment")
    job.creation_time = _time(record.created)
    return job


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
