"""Runs jobs as SageMaker Processing jobs, and never pays for the same work twice.

A job's name says what it computes, with which code, at which attempt. It is noted on the lake
before the job is created, and the service accepts a name only once; so whoever wants the same
work, after whatever accident, finds the job that does it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import cached_property
from itertools import count
from typing import Any

import boto3
from botocore.config import Config

from reviewsum_assets.checkpoints.manifest import Producer
from reviewsum_assets.compute.base import Capacity, Launch
from reviewsum_assets.compute.failures import FailureKind, JobFailure, LaunchError
from reviewsum_assets.compute.instances import capacity_of, has_gpus, has_own_disk
from reviewsum_assets.compute.job_package import JobPackage, JobWheels, build_package, publish
from reviewsum_assets.compute.launches import (
    StartLock,
    note_end,
    note_launch,
    note_waiting,
    noted_jobs,
    start_lock,
)
from reviewsum_assets.compute.processing_api import (
    JobDescription,
    NameTaken,
    ProcessingApi,
    console_links,
)
from reviewsum_assets.compute.processing_request import (
    PROVIDED,
    SPEC_HASH,
    SPEC_INPUT,
    ContainerImage,
    container_image,
    inputs_manifest,
    inputs_manifest_key,
    main_recipe,
    processing_request,
    spec_hash,
)
from reviewsum_assets.compute.sagemaker_job import SageMakerJob
from reviewsum_assets.errors import LakeError, SettingsError
from reviewsum_assets.job.models.loaded import files_prefix
from reviewsum_assets.job.spec import JobSpec, spec_key
from reviewsum_assets.settings import SageMakerSettings
from reviewsum_assets.storage.lake import Lake

_log = logging.getLogger(__name__)

# For whoever starts a job without having estimated it.
_TIME_LIMIT_SECONDS = 86_400
_APPEARANCE_SECONDS = 30.0
# A job is created seconds after it is noted, or never. The note's time is that of AWS, which
# refuses whoever's clock differs from it by a quarter of an hour.
_NEVER_CREATED_AFTER = timedelta(hours=1)


class SageMakerCompute:
    """Jobs on SageMaker Processing.

    Args:
        lake: on S3.
        settings: of the jobs.
        client: boto3's ``sagemaker`` client.
        logs_client: boto3's ``logs`` client.
        usd_per_hour: of one instance; None: what is known of its type.
        write_log: takes each line of a container's log; default: standard error.
    """

    def __init__(
        self,
        *,
        lake: Lake,
        settings: SageMakerSettings,
        client: Any,
        logs_client: Any,
        usd_per_hour: float | None = None,
        write_log: Callable[[str], None] | None = None,
    ) -> None:
        self.usd_per_hour = usd_per_hour
        self.lake = lake
        self.settings = settings
        self.api = ProcessingApi(client)
        self.logs_client = logs_client
        self.region: str = client.meta.region_name
        self.write_log = write_log or _write_to_standard_error

    @classmethod
    def connect(
        cls, lake: Lake, settings: SageMakerSettings, usd_per_hour: float | None = None
    ) -> SageMakerCompute:
        """Connect with the credentials of the usual AWS configuration.

        Raises:
            SettingsError: a setting that is needed is missing.
        """
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
        return cls(
            lake=lake,
            settings=settings,
            client=session.client("sagemaker", config=retrying),
            logs_client=session.client("logs", config=retrying),
            usd_per_hour=usd_per_hour,
        )

    @property
    def poll_seconds(self) -> float:
        """How long to wait between looks at a job."""
        return self.settings.poll_seconds

    @property
    def capacity(self) -> Capacity:
        """The GPUs of all instances, at what is known of the price."""
        settings = self.settings
        types = (settings.instance_type, *settings.fallback_instance_types)
        return capacity_of(types, settings.instance_count)

    @property
    def needs_time_limit(self) -> bool:
        """Yes: instances are billed until the job ends."""
        return True

    @cached_property
    def package(self) -> JobPackage:
        """The code that jobs run."""
        installs = self.settings.package_source != "image"
        return build_package(installs=installs, cuda=self.image.cuda)

    @cached_property
    def image(self) -> ContainerImage:
        """The image that jobs run in.

        Raises:
            SettingsError: there is none for this region or instance type.
        """
        return container_image(self.settings, self.region)

    @property
    def wheels(self) -> JobWheels | None:
        """The wheels that jobs install; None where they ask a package index, or nothing."""
        if self.settings.package_source != "lake" or not self.image.python:
            return None
        return JobWheels.of(self.package, self.image.python)

    @property
    def notices(self) -> list[str]:
        """What is worth knowing before a job starts, a sentence each."""
        found = [self.image.outdated(datetime.now(timezone.utc).date())]
        if self.settings.package_source == "lake" and not self.image.python:
            found.append(
                f"the Python version of the image {self.image.uri} is not known, so that the job "
                "installs its packages from a package index: set image_python"
            )
        return [notice for notice in found if notice]

    def start(self, spec: JobSpec, launch: Launch) -> SageMakerJob:
        """Start a job, or attach to the live one that does the very same work.

        An attempt whose job has ended is followed by the next one.

        Raises:
            LaunchError: SageMaker refused; says why and what to do.
            SettingsError: the request breaks a limit of the service.
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
        """Page and log of a job that ran on AWS, in this region if nobody has changed it."""
        is_ours = producer.instance_type.startswith("ml.")
        return console_links(self.region, producer.job_name) if is_ours else {}

    def live_jobs(self) -> list[SageMakerJob]:
        """The jobs of this lake that have not ended."""
        live = []
        for noted in noted_jobs(self.lake):
            spec = noted.spec
            found = self.api.describe(name=spec.name)
            if found is None:
                if self.lake.now() - noted.noted_at > _NEVER_CREATED_AFTER:
                    note_end(self.lake, spec.name)
            elif not found.is_live:
                note_end(self.lake, spec.name)
            elif found.inputs.get(SPEC_INPUT) == self.lake.uri_of(spec_key(spec.name)):
                live.append(SageMakerJob(self, spec, attached=True, was_stopping=found.is_stopping))
            else:
                # Who finds a job may stop it, and a note can name anybody's. From where a job reads
                # its spec, SageMaker says, whatever was written to the lake, and by which version.
                _log.warning("job %s is noted on this lake and not of it: ignored", spec.name)
        return live

    def request(self, spec: JobSpec, launch: Launch) -> dict[str, Any]:
        """The request that ``start`` would send for a first attempt; nothing is sent.

        Raises:
            SettingsError: it breaks a limit of the service.
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
        local_disks = [name for name in self.settings.instance_types if has_own_disk(name)]
        if self.settings.volume_kms_key and local_disks:
            raise SettingsError(
                f"volume_kms_key cannot be used with {', '.join(local_disks)}: their own disks are "
                "encrypted by hardware, and AWS refuses a key for them"
            )
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
        self._request(spec, launch, self.wheels)  # a broken limit is named before any download
        request = self._request(spec, launch, self._stored_wheels())
        publish(self.lake, self.package)
        self.lake.put(inputs_manifest_key(spec.name), inputs_manifest(self.lake, spec))
        while True:
            with start_lock(self.lake) as lock:
                # While this process waited, another one may have started some of this work.
                started = self._started_meanwhile(spec, launch)
                if started is not None:
                    return started
                note_launch(self.lake, spec, launch)
                if not _is_held(lock):
                    continue  # suspended until another process took the lock: look again
                job = self._create_now(spec, launch, request)
                if job.attached or _is_held(lock):
                    return job
            return self._settled(job, launch)

    def _stored_wheels(self) -> JobWheels | None:
        """The wheels that the job installs, on the lake now; None if it asks a package index."""
        wheels = self.wheels
        if wheels is None:
            return None
        problem = wheels.ensure_stored(self.lake)
        if not problem:
            return wheels
        self.write_log(
            f"warning: the job's packages cannot be downloaded here ({problem}): the job will "
            "install them from a package index, which it may not reach in a VPC, and which may "
            "serve others than these"
        )
        return None

    def _started_meanwhile(self, spec: JobSpec, launch: Launch) -> SageMakerJob | None:
        """A live job that computes this, or some of it."""
        found = self.api.describe(name=spec.name)
        if found is not None and found.is_live:
            return self._attach(spec, found, launch)
        for job in self._overlapping(spec):
            note_waiting(self.lake, job.spec.name, launch.run_id)
            return job
        return None

    def _overlapping(self, spec: JobSpec) -> Iterator[SageMakerJob]:
        """The live jobs under other names that compute some of the same."""
        for job in self.live_jobs():
            if job.spec.name != spec.name and job.spec.overlaps(spec):
                yield job

    def _create_now(self, spec: JobSpec, launch: Launch, request: dict[str, Any]) -> SageMakerJob:
        try:
            self.api.create(request=request)
        except NameTaken:
            # Another process was first, or the answer to this one's own request was lost.
            return self._attach(spec, self._found(spec.name), launch)
        except LaunchError as error:
            if error.failure.is_certain:
                with suppress(LaunchError):
                    if self.api.describe(name=spec.name) is None:
                        note_end(self.lake, spec.name)
            raise
        with suppress(LaunchError):  # it exists; who follows it has more patience
            self._found(spec.name)
        return SageMakerJob(self, spec, attached=False)

    def _settled(self, job: SageMakerJob, launch: Launch) -> SageMakerJob:
        """Of two jobs that overlap keep the other one, after this one was created without the lock.

        Under the lock again, since its holder meanwhile may have been creating a job.
        """
        with start_lock(self.lake):
            going_on = (other for other in self._overlapping(job.spec) if not other.was_stopping)
            other = next(going_on, None)
            if other is None:
                return job
            self.write_log(f"job {job.spec.name} overlaps {other.spec.name} and is stopped")
            self.api.stop(name=job.spec.name)
            note_waiting(self.lake, other.spec.name, launch.run_id)
            return other

    def _found(self, name: str) -> JobDescription:
        """A job that exists; the service may take a moment to show it."""
        deadline = time.monotonic() + _APPEARANCE_SECONDS
        while (found := self.api.describe(name=name)) is None:
            if time.monotonic() > deadline:
                reason = f"the name {name} is taken, but there is no job of this name"
                raise LaunchError(JobFailure(FailureKind.SERVICE, reason))
            time.sleep(min(self.poll_seconds, 2.0))
        return found

    def _attach(self, spec: JobSpec, found: JobDescription, launch: Launch) -> SageMakerJob:
        if found.environment.get(SPEC_HASH) != spec_hash(spec):
            reason = f"a job named {spec.name} exists that computes something else"
            raise LaunchError(JobFailure(FailureKind.REQUEST, reason))
        note_waiting(self.lake, spec.name, launch.run_id)
        return SageMakerJob(self, spec, attached=True, was_stopping=found.is_stopping)


def _is_held(lock: StartLock) -> bool:
    """Whether the lock is held, as far as the lake tells: a job that exists must not be lost."""
    try:
        return lock.is_held()
    except LakeError as error:
        _log.warning("the lock on starting jobs cannot be read: %s", error)
        return True


def _write_to_standard_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")
