"""Runs jobs as SageMaker Processing jobs, and never pays for the same work twice.

A job's name says what it computes, with which code, at which attempt. It is noted on the lake
before the job is created, and the service accepts a name only once; so a process that wants the
same work, after whatever accident, finds the job that does it.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any

import boto3
from botocore.config import Config

from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.compute.base import Capacity, Launch
from reviewsum_assets.compute.failures import FailureKind, JobFailure, LaunchError
from reviewsum_assets.compute.instances import capacity_of, has_gpus
from reviewsum_assets.compute.job_package import JobPackage, JobWheels, build_package, publish
from reviewsum_assets.compute.launches import note_end, note_launch, note_waiting, noted_jobs
from reviewsum_assets.compute.sagemaker_job import (
    JobDescription,
    NameTaken,
    ProcessingApi,
    SageMakerJob,
    console_links,
    write_log,
)
from reviewsum_assets.compute.sagemaker_request import (
    PROVIDED,
    SPEC_HASH,
    SPEC_INPUT,
    ContainerImage,
    container_image,
    inputs_manifest,
    inputs_manifest_key,
    main_recipe,
    processing_request,
)
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.models.loaded import files_prefix
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.settings import SageMakerSettings
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.locks import exclusive
from reviewsum_assets.storage.places import JOB_STARTS, spec_key

_log = logging.getLogger(__name__)

# For callers that start a job without an estimate.
_TIME_LIMIT_SECONDS = 86_400
_APPEARANCE_SECONDS = 30.0
# A job is created seconds after it is noted, or never. The note's time is that of AWS, which
# refuses clients whose clock differs from it by a quarter of an hour.
_NEVER_CREATED_AFTER = timedelta(hours=1)


class SageMakerCompute:
    """Jobs on SageMaker Processing, with the credentials of the usual AWS configuration.

    ``usd_per_hour`` is the price of one instance; None: the known price of its type.

    Raises:
        SettingsError: A setting that is needed is missing.
    """

    needs_time_limit = True

    def __init__(
        self, lake: Lake, settings: SageMakerSettings, usd_per_hour: float | None = None
    ) -> None:
        if lake.directory is not None:
            raise SettingsError(
                f"lake {lake.uri} is a directory, which a SageMaker job cannot reach: set lake to "
                "s3://bucket/prefix"
            )
        if not settings.role_arn:
            raise SettingsError("role_arn is not set: name the IAM role that the job runs as")
        session = boto3.Session()
        if session.region_name is None:
            raise SettingsError("no AWS region is known: set AWS_DEFAULT_REGION")
        retrying = Config(retries={"mode": "adaptive", "total_max_attempts": 6})
        self.api = ProcessingApi(session.client("sagemaker", config=retrying))
        self.logs_client = session.client("logs", config=retrying)
        self.region: str = session.region_name
        self.usd_per_hour = usd_per_hour
        self.lake = lake
        self.settings = settings
        self.poll_seconds = settings.poll_seconds

    @property
    def capacity(self) -> Capacity:
        """The GPUs of all instances, with their price."""
        settings = self.settings
        return capacity_of(settings.instance_types, settings.instance_count, self.usd_per_hour)

    @cached_property
    def package(self) -> JobPackage:
        """The code that jobs run."""
        installs = self.settings.package_source != "image"
        return build_package(installs=installs, cuda=self.image.cuda)

    @cached_property
    def image(self) -> ContainerImage:
        """The image that jobs run in.

        Raises:
            SettingsError: There is none for this region or instance type.
        """
        return container_image(self.settings, self.region)

    @property
    def wheels(self) -> JobWheels | None:
        """The wheels that jobs install; None if they use a package index, or install nothing."""
        if self.settings.package_source != "lake" or not self.image.python:
            return None
        return JobWheels(self.package.requirements, self.image.python)

    @property
    def notices(self) -> list[str]:
        """Warnings to show before a job starts, one sentence each."""
        found = [self.image.outdated(datetime.now(UTC).date())]
        if self.settings.package_source == "lake" and not self.image.python:
            found.append(
                f"the Python version of the image {self.image.uri} is not known, so that the job "
                "installs its packages from a package index: set image_python"
            )
        return [notice for notice in found if notice]

    def start(self, spec: JobSpec, launch: Launch) -> SageMakerJob:
        """Start a job, or attach to the live one that does the same work.

        An attempt whose job has ended is followed by the next one.

        Raises:
            LaunchError: SageMaker refused; says why and what to do.
            SettingsError: There is no image for this region or instance type.
        """
        for attempt in count(1):
            named = self._named(spec, attempt)
            found = self.api.describe(name=named.name)
            if found is None:
                return self._create(named, launch)
            if found.is_live:
                return self._attach(named, found, launch)
        raise AssertionError("count() does not end")

    def links_of(self, producer: Producer) -> dict[str, str]:
        """Return page and log of a job that ran on AWS, assuming the same region."""
        is_ours = producer.instance_type.startswith("ml.")
        return console_links(self.region, producer.job_name) if is_ours else {}

    def live_jobs(self) -> list[SageMakerJob]:
        """Return the jobs of this lake that have not ended."""
        live = []
        for spec, noted_at in noted_jobs(self.lake):
            found = self.api.describe(name=spec.name)
            if found is None:
                if self.lake.now() - noted_at > _NEVER_CREATED_AFTER:
                    note_end(self.lake, spec.name)
            elif not found.is_live:
                note_end(self.lake, spec.name)
            elif found.inputs.get(SPEC_INPUT) == self.lake.uri_of(spec_key(spec.name)):
                live.append(self._attached(spec, found))
            else:
                # The caller may stop a job, and a note can name any job of the account. SageMaker
                # says where a job reads its spec, whatever was written to the lake.
                _log.warning("job %s is noted on this lake and not of it: ignored", spec.name)
        return live

    def request(self, spec: JobSpec, launch: Launch) -> dict[str, Any]:
        """Return the request that ``start`` would send for a first attempt, without sending it.

        Raises:
            SettingsError: There is no image for this region or instance type.
        """
        return self._request(self._named(spec, 1), launch, self.wheels)

    def _named(self, spec: JobSpec, attempt: int) -> JobSpec:
        name = f"{spec.name}-{self.package.version[:6]}-{attempt}"
        engine = spec.engine
        if engine.device == "auto" and all(map(has_gpus, self.settings.instance_types)):
            # GPUs that cannot be used are an error: they are paid for.
            engine = engine.model_copy(update={"device": "cuda"})
        return spec.model_copy(update={"name": name, "provided": PROVIDED, "engine": engine})

    def _request(self, spec: JobSpec, launch: Launch, wheels: JobWheels | None) -> dict[str, Any]:
        return processing_request(
            lake=self.lake,
            spec=spec,
            package=self.package,
            wheels=wheels,
            model_prefix=files_prefix(self.lake, main_recipe(spec), spec.engine),
            settings=self.settings,
            image_uri=self.image.uri,
            region=self.region,
            max_runtime_seconds=launch.time_limit_seconds or _TIME_LIMIT_SECONDS,
            tags=launch.tags,
        )

    def _create(self, spec: JobSpec, launch: Launch) -> SageMakerJob:
        wheels = self.wheels
        if wheels is not None and (problem := wheels.ensure_stored(self.lake)):
            wheels = None
            write_log(
                f"warning: the job's packages cannot be downloaded here ({problem}): the job will "
                "install them from a package index, which it may not reach in a VPC, and which may "
                "serve different files"
            )
        request = self._request(spec, launch, wheels)
        publish(self.lake, self.package)
        self.lake.put(inputs_manifest_key(spec.name), inputs_manifest(self.lake, spec))
        while True:
            with exclusive(self.lake, JOB_STARTS) as lock:
                # While this process waited, another one may have started some of this work.
                found = self.api.describe(name=spec.name)
                if found is not None and found.is_live:
                    return self._attach(spec, found, launch)
                for other in self._overlapping(spec):
                    note_waiting(self.lake, other.spec.name, launch.run_id)
                    return other
                note_launch(self.lake, spec, launch)
                if not lock.is_held():
                    continue  # suspended until another process took the lock: look again
                job = self._create_now(spec, launch, request)
                if job.attached or lock.is_held():
                    return job
            return self._settled(job, launch)

    def _overlapping(self, spec: JobSpec) -> list[SageMakerJob]:
        """Return the live jobs under other names that compute some of the same checkpoints."""
        live = self.live_jobs()
        return [job for job in live if job.spec.name != spec.name and job.spec.overlaps(spec)]

    def _create_now(self, spec: JobSpec, launch: Launch, request: dict[str, Any]) -> SageMakerJob:
        try:
            self.api.create(request=request)
        except NameTaken:
            # Another process was first, or the answer to this one's own request was lost.
            return self._attach(spec, self._found(spec.name), launch)
        except LaunchError as error:
            if error.failure.kind is not FailureKind.SERVICE:  # after which a job may exist
                with suppress(LaunchError):
                    if self.api.describe(name=spec.name) is None:
                        note_end(self.lake, spec.name)
            raise
        with suppress(LaunchError):  # it exists; polling it waits longer
            self._found(spec.name)
        return SageMakerJob(self, spec, attached=False)

    def _settled(self, job: SageMakerJob, launch: Launch) -> SageMakerJob:
        """Of two jobs that overlap keep the other one, after this one was created without the lock.

        Under the lock again, since its holder meanwhile may have been creating a job.
        """
        with exclusive(self.lake, JOB_STARTS):
            for other in self._overlapping(job.spec):
                if not other.was_stopping:
                    write_log(f"job {job.spec.name} overlaps {other.spec.name} and is stopped")
                    self.api.stop(name=job.spec.name)
                    note_waiting(self.lake, other.spec.name, launch.run_id)
                    return other
            return job

    def _found(self, name: str) -> JobDescription:
        """Return a job that exists; the service may take a moment to show it."""
        deadline = time.monotonic() + _APPEARANCE_SECONDS
        while (found := self.api.describe(name=name)) is None:
            if time.monotonic() > deadline:
                reason = f"the name {name} is taken, but there is no job of this name"
                raise LaunchError(JobFailure(FailureKind.SERVICE, reason))
            time.sleep(min(self.poll_seconds, 2.0))
        return found

    def _attach(self, spec: JobSpec, found: JobDescription, launch: Launch) -> SageMakerJob:
        if found.raw.get("Environment", {}).get(SPEC_HASH) != spec.work_hash:
            reason = f"a job named {spec.name} exists that computes something else"
            raise LaunchError(JobFailure(FailureKind.REQUEST, reason))
        note_waiting(self.lake, spec.name, launch.run_id)
        return self._attached(spec, found)

    def _attached(self, spec: JobSpec, found: JobDescription) -> SageMakerJob:
        return SageMakerJob(self, spec, attached=True, was_stopping=found.status == "Stopping")
