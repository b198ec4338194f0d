"""Diagnosis before a run: what will work, what will not, and what to do about it.

Every check uses the same code as a run does, and costs nothing: no job is started, and nothing that
is written to the lake stays.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict

from reviewsum_assets.compute import compute_for
from reviewsum_assets.compute.instances import instance_facts
from reviewsum_assets.errors import JobError, ReviewsumError
from reviewsum_assets.job.devices import (
    driver_gpus,
    find_gpus,
    load_cublas,
    usable_cores,
    worker_devices,
)
from reviewsum_assets.job.engines import choose_engine
from reviewsum_assets.job.models.conversion import read_conversion
from reviewsum_assets.job.models.directory import ReadyModel, examine_model
from reviewsum_assets.reviews.dumps import find_dumps, has_dumps
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage.lake import Lake

# A model of 571 million parameters as it is downloaded, made ready and converted.
_LEAST_DISK_BYTES = 5 * 10**9
_LOG_IN = "log in to AWS, or set AWS_PROFILE or the other AWS_* variables of this process"
_POLICIES = "create it with the policies in reviewsum_assets/compute/iam, or correct role_arn"

T = TypeVar("T")


class Finding(BaseModel):
    """One line of a diagnosis; ``remedy`` says what to do unless all is well."""

    model_config = ConfigDict(frozen=True)

    subject: str
    state: Literal["ok", "warning", "problem"]
    text: str
    remedy: str = ""


def _finding(subject: str, text: str, *, problem: str = "", warning: str = "") -> Finding:
    """Make a finding from the remedy of its problem or warning; it is ok without one."""
    state: Literal["ok", "warning", "problem"] = "problem" if problem else "ok"
    if warning and not problem:
        state = "warning"
    return Finding(subject=subject, state=state, text=text, remedy=problem or warning)


@dataclass
class _Subject:
    """The settings and lake under diagnosis, and the model once it is examined."""

    settings: Settings
    lake: Lake
    model: ReadyModel | None = None


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Check the needs of a run with these settings, in the order in which the run has them.

    Yields:
        Each finding as soon as it is made; after a problem with credentials or lake all checks that
        need them are left out.
    """
    if settings.compute == "sagemaker" or settings.lake.startswith("s3://"):
        found = _credentials(settings)
        yield found
        if found.state == "problem":
            return
    with _leaving_no_directory(settings.lake):
        for found in _lake(settings.lake):
            yield found
            if found.state == "problem":
                return
        subject = _Subject(settings, Lake.open(settings.lake))
        for name, compute, check in _CHECKS:
            if compute in ("any", settings.compute):
                try:
                    yield from check(subject)
                except (ReviewsumError, OSError) as error:
                    yield _finding(name, str(error), problem="correct what the message names")


@contextmanager
def _leaving_no_directory(lake: str) -> Iterator[None]:
    """Remove the lake's directory at the end if it was not there before."""
    directory = Path(lake.removeprefix("file://")).expanduser()
    is_new = "://" not in lake and not directory.exists()
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # not empty: it is in use by now
                for empty in sorted(directory.glob("*"), reverse=True):
                    empty.rmdir()
                directory.rmdir()


def _credentials(settings: Settings) -> Finding:
    """The identity of this process on AWS; a store of another kind may know none."""
    needed = settings.compute == "sagemaker"

    def bad(subject: str, text: str, remedy: str) -> Finding:
        return _finding(subject, text, problem=remedy if needed else "", warning=remedy)

    try:
        import boto3
    except ImportError:
        return bad("credentials", "the AWS libraries are not installed", "pip install '.[aws]'")

    def identity() -> Finding:
        session = boto3.Session()
        if session.get_credentials() is None:
            # Without any, access to the lake would wait minutes for those of an EC2 instance.
            return _finding("credentials", "there are no AWS credentials", problem=_LOG_IN)
        region = session.region_name or os.environ.get("AWS_REGION")
        if region is None:
            return bad("region", "no AWS region is set", "set AWS_DEFAULT_REGION")
        caller = session.client("sts", region_name=region).get_caller_identity()
        return _finding("credentials", f"{caller['Arn']} in {region}")

    found = _from_aws(identity)
    if isinstance(found, Finding):
        return found
    return bad("credentials", f"AWS does not confirm the identity: {found}", _LOG_IN)


def _from_aws(call: Callable[[], T]) -> T | str:
    """Return the answer of AWS, or the error as text."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except (BotoCoreError, ClientError) as error:
        return str(error)


def _lake(uri: str) -> Iterator[Finding]:
    """Whether the lake can be opened, read, written, and creates an object for one writer only."""
    remedy = "set lake to a directory or to s3://bucket/prefix"
    subject, text = "lake", f"{uri} can be read and written"
    try:
        lake = Lake.open(uri)
        remedy = "grant this user reading, writing and deleting below the lake"
        lake.require_writable()
        yield _finding(subject, text)
        remedy = "use a store with conditional writes, as AWS S3"
        subject, text = "one writer", "of two writers of an object one succeeds"
        lake.require_exclusive_create()
        yield _finding(subject, text)
    except (ReviewsumError, OSError) as error:
        yield _finding(subject, str(error), problem=remedy)


def _dumps(subject: _Subject) -> Iterator[Finding]:
    if not subject.settings.dumps and not has_dumps(subject.lake):
        text = "there are none: `reviewsum run` would use the sample reviews"
        remedy = "put dumps into review_dumps/ of the lake, or name them with --dump"
        yield _finding("reviews", text, warning=remedy)
    else:
        found = find_dumps(subject.lake, subject.settings)
        size = sum(dump.size for dump in found) / 1e6
        yield _finding("reviews", f"{len(found)} files, {size:,.1f} MB")


def _model(subject: _Subject) -> Iterator[Finding]:
    name, model = examine_model(subject.lake, subject.settings)
    if model is None:
        yield _finding("model", f"{name}, examined once it is downloaded")
        return
    subject.model = model
    text = f"{name}, {model.family}, {model.parameters / 1e6:,.0f} million parameters"
    if model.is_demo:
        remedy = "name a real model, such as a directory of google/pegasus-cnn_dailymail"
        yield _finding("model", f"{text}: it knows the sample reviews only", warning=remedy)
    else:
        yield _finding("model", text)


def _disk(subject: _Subject) -> Iterator[Finding]:
    """Free disk for a local job, which makes the model ready and stores the results."""
    temporary = Path(tempfile.gettempdir())
    folders = {"disk of the lake": subject.lake.directory, "temporary disk": temporary}
    for name, folder in folders.items():
        if folder is not None:
            free = shutil.disk_usage(folder).free
            remedy = "free some space: a model of usual size needs 5 GB"
            yield _finding(
                name,
                f"{free / 1e9:,.1f} GB free at {folder}",
                warning=remedy if free < _LEAST_DISK_BYTES else "",
            )


def _devices(subject: _Subject) -> Iterator[Finding]:
    """The devices of local jobs."""
    engine = subject.settings.engine_settings()
    shown = driver_gpus()
    try:
        devices = worker_devices(engine, subject.model.parameters if subject.model else 0)
    except JobError as error:
        yield _finding("device", str(error), problem="see the driver with nvidia-smi")
        return
    if devices[0].gpu is None:
        problem = find_gpus(engine).problem if engine.device == "auto" else ""
        text = f"{len(devices)} workers on {usable_cores()} CPU cores"
        remedy = "update the driver, or set device cpu"
        yield _finding(
            "device", f"{text}: {problem}" if problem else text, warning=problem and remedy
        )
        return
    driver = f", driver {shown[0].driver}" if shown else ""
    yield _finding("device", f"{', '.join(map(str, devices))}{driver}")
    if engine.engine != "transformers":
        from reviewsum_assets.job.engines.ctranslate2_engine import NO_CUBLAS

        found = load_cublas()
        missing = "cuBLAS of CUDA 12 is not found: transformers is used, several times slower"
        yield _finding("cuBLAS", str(found or missing), warning="" if found else NO_CUBLAS)


def _memory(subject: _Subject) -> Iterator[Finding]:
    free = psutil.virtual_memory().available
    # Converting holds the float32 weights twice.
    is_short = subject.model is not None and free < 2 * 4 * subject.model.parameters
    remedy = "end other programs: converting the model needs more" if is_short else ""
    yield _finding("memory", f"{free / 1e9:,.1f} GB free", warning=remedy)


def _engine(subject: _Subject) -> Iterator[Finding]:
    """The engine that generates."""
    model, settings = subject.model, subject.settings
    conversion = None if model is None else read_conversion(subject.lake, model.version)
    choice = choose_engine(
        settings.engine_settings(),
        settings.summary_settings(),
        # A conversion that the first run will make counts as made.
        conversion.obstacle if conversion is not None else "",
    )
    state = "converted" if conversion is not None else "to be converted by the first run"
    if choice.name == "ctranslate2":
        yield _finding("engine", f"ctranslate2, {state}")
    elif settings.engine == "transformers":
        yield _finding("engine", "transformers, as the setting engine says")
    else:
        yield _finding("engine", f"transformers: {choice.reason}", warning="expect a slower job")


def _sagemaker(subject: _Subject) -> Iterator[Finding]:
    """The needs of a SageMaker job, as far as these credentials may query them."""
    import boto3

    settings = subject.settings
    compute = compute_for(settings, subject.lake)
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

    assert isinstance(compute, SageMakerCompute)
    try:
        compute.api.describe(name="reviewsum-doctor")
    except ReviewsumError as error:
        remedy = "grant orchestrator_policy.json to this user"
        yield _finding("SageMaker", str(error), problem=remedy)
    else:
        yield _finding("SageMaker", f"answers in {compute.region}")
    yield _role(settings.role_arn)
    yield _finding("image", compute.image.uri)
    for notice in compute.notices:
        yield _finding("image", notice, warning="see image_uri, image_cuda and image_python")

    def quotas() -> dict[str, float]:
        pages = boto3.client("service-quotas").get_paginator("list_service_quotas")
        listed = (q for page in pages.paginate(ServiceCode="sagemaker") for q in page["Quotas"])
        return {quota["QuotaName"]: quota["Value"] for quota in listed}

    known = _from_aws(quotas)
    for instance_type in compute.settings.instance_types:
        yield _instance(instance_type, settings)
        yield _quota(instance_type, settings, known)
    source, wheels = settings.package_source, compute.wheels
    if source == "image":
        yield _finding("packages", "all in the image, as package_source says")
    elif wheels is not None:
        when = (
            "on the lake"
            if wheels.are_stored(subject.lake)
            else "downloaded and stored by the first run"
        )
        yield _finding("packages", f"wheels for Python {wheels.python}, {when}")
    else:
        remedy = "set package_source to lake where the job reaches none, as in a VPC without NAT"
        yield _finding("packages", "the job installs them from a package index", warning=remedy)


def _role(role_arn: str) -> Finding:
    """Whether the job's role exists and SageMaker may assume it."""
    import boto3

    name = role_arn.rpartition("/")[2]
    found = _from_aws(lambda: dict(boto3.client("iam").get_role(RoleName=name)["Role"]))
    if isinstance(found, str):
        if "(NoSuchEntity)" in found:
            return _finding("role", f"there is no role {role_arn}", problem=_POLICIES)
        return _finding("role", f"cannot look up {role_arn}: {found}", warning="look it up by hand")
    if "sagemaker.amazonaws.com" not in str(found.get("AssumeRolePolicyDocument")):
        remedy = "give it the trust policy job_role_trust.json"
        return _finding("role", f"SageMaker may not assume {role_arn}", problem=remedy)
    return _finding("role", role_arn)


def _instance(instance_type: str, settings: Settings) -> Finding:
    facts = instance_facts(instance_type)
    if facts is None:
        remedy = "set usd_per_hour, so that estimates and max_cost_usd work"
        text = f"price and GPUs of {instance_type} are not known here"
        return _finding("instance", text, warning=remedy)
    price = facts.usd_per_hour if settings.usd_per_hour is None else settings.usd_per_hour
    return _finding(
        "instance",
        f"{settings.instance_count} x {instance_type}, {facts.gpus} {facts.gpu.name} of "
        f"{facts.gpu.memory_gb} GB, {price:.2f} USD per hour",
    )


def _quota(instance_type: str, settings: Settings, quotas: dict[str, float] | str) -> Finding:
    """Whether the account may run that many such instances for Processing at the same time."""
    if isinstance(quotas, str):
        return _finding("quota", f"cannot query quotas: {quotas}", warning="look them up by hand")
    name, count = f"{instance_type} for processing job usage", settings.instance_count
    if name not in quotas:
        return _finding("quota", f"{name}: not listed", warning="look it up by hand")
    if quotas[name] >= count:
        return _finding("quota", f"{name}: {quotas[name]:.0f}")
    is_fallback = instance_type != settings.instance_type
    remedy = f"request {count} in the Service Quotas console: Amazon SageMaker, '{name}'"
    text = f"{name}: {quotas[name]:.0f}, {count} are needed"
    return _finding("quota", text, problem="" if is_fallback else remedy, warning=remedy)


_Check = Callable[[_Subject], Iterator[Finding]]
# In the order of a run: subject of an error, compute that needs the check, check.
_CHECKS: tuple[tuple[str, str, _Check], ...] = (
    ("reviews", "any", _dumps),
    ("disk", "local", _disk),
    ("model", "any", _model),
    ("job", "sagemaker", _sagemaker),
    ("device", "local", _devices),
    ("memory", "local", _memory),
    ("engine", "any", _engine),
)
