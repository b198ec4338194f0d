"""Diagnosis before a run: what will work, what will not, and what to do about it.

Every check uses the same code as a run does, and costs nothing: no job is started, and of what is
written to the lake nothing stays.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
from pydantic import BaseModel, ConfigDict

from reviewsum_assets.compute import compute_for
from reviewsum_assets.compute.instances import instance_facts
from reviewsum_assets.errors import JobError, ReviewsumError
from reviewsum_assets.job.conversion import read_conversion
from reviewsum_assets.job.devices import driver_gpus, find_gpus, usable_cores, worker_devices
from reviewsum_assets.job.engines.cuda_libraries import load_cublas
from reviewsum_assets.job.model_directory import ReadyModel, examine_model
from reviewsum_assets.lake import Lake
from reviewsum_assets.reviews.dumps import find_dumps, has_dumps
from reviewsum_assets.settings import Settings

if TYPE_CHECKING:
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

# Weights in float32 and their conversion, beside the reviews.
_DISK_BYTES_PER_PARAMETER = 8
_LEAST_DISK_BYTES = 2 * 10**9


class Finding(BaseModel):
    """One line of a diagnosis; ``remedy`` says what to do unless all is well."""

    model_config = ConfigDict(frozen=True)

    subject: str
    state: Literal["ok", "warning", "problem"]
    text: str
    remedy: str = ""


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Check what a run with these settings needs, in the order in which it needs it.

    Yields:
        A finding as soon as it is made; after a problem what depends on it is left out.
    """
    with _leaving_no_directory(settings.lake):
        yield from _findings(settings)


@contextmanager
def _leaving_no_directory(lake: str) -> Iterator[None]:
    """Remove the lake's directory at the end if it was not there before."""
    directory = Path(lake.removeprefix("file://")).expanduser()
    is_new = "://" not in lake and not directory.exists()
    yield
    if is_new:
        with suppress(OSError):  # not empty: it is in use by now
            for empty in sorted(directory.glob("*"), reverse=True):
                empty.rmdir()
            directory.rmdir()


def _findings(settings: Settings) -> Iterator[Finding]:
    on_aws = settings.compute == "sagemaker" or settings.lake.startswith("s3://")
    if on_aws:
        yield (found := _credentials())
        if found.state == "problem":
            return
    try:
        lake = Lake.open(settings.lake)
    except ReviewsumError as error:
        yield _problem("lake", str(error), "set lake to a directory or to s3://bucket/prefix")
        return
    findings = list(_lake(lake))
    yield from findings
    if any(found.state == "problem" for found in findings):
        return
    yield _dumps(lake, settings)
    found, model = _model(lake, settings)
    yield found
    if settings.compute == "sagemaker":
        yield from _sagemaker(lake, settings)
    else:
        yield from _devices(settings, model)
        yield from _room(lake, model)
    yield _engine(lake, settings, model)


def _ok(subject: str, text: str) -> Finding:
    return Finding(subject=subject, state="ok", text=text)


def _warning(subject: str, text: str, remedy: str) -> Finding:
    return Finding(subject=subject, state="warning", text=text, remedy=remedy)


def _problem(subject: str, text: str, remedy: str) -> Finding:
    return Finding(subject=subject, state="problem", text=text, remedy=remedy)


def _credentials() -> Finding:
    """Who AWS takes this process for."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return _problem(
            "credentials", "the AWS libraries are not installed", "pip install '.[aws]'"
        )
    remedy = "log in to AWS, or set AWS_PROFILE or the other AWS_* variables of this process"
    try:
        session = boto3.Session()
        if session.get_credentials() is None:
            return _problem("credentials", "there are no AWS credentials", remedy)
        region = session.region_name
        if region is None:
            return _problem("region", "no AWS region is set", "set AWS_DEFAULT_REGION")
        caller = session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return _problem("credentials", f"AWS does not accept them: {error}", remedy)
    return _ok("credentials", f"{caller['Arn']} in {region}")


def _lake(lake: Lake) -> Iterator[Finding]:
    """Whether it can be read, written, and gives an object to one writer only."""
    probe = f"doctor/{uuid.uuid4().hex}"
    try:
        lake.get(probe)
        lake.put(probe, b"written")
        read = lake.get(probe)
        lake.delete(probe)
    except ReviewsumError as error:
        yield _problem(
            "lake", str(error), "grant this user reading, writing and deleting below the lake"
        )
        return
    if read != b"written":
        yield _problem("lake", f"{lake.uri} does not return what was written", "use another store")
        return
    yield _ok("lake", f"{lake.uri} can be read and written")
    try:
        lake.require_exclusive_create()
    except ReviewsumError as error:
        yield _problem("one writer", str(error), "use a store with conditional writes, as AWS S3")
        return
    yield _ok("one writer", "of two writers of an object one succeeds")


def _dumps(lake: Lake, settings: Settings) -> Finding:
    if not settings.dumps and not has_dumps(lake):
        return _warning(
            "reviews",
            "there are none: `reviewsum run` would use the sample reviews",
            "put dumps into review_dumps/ of the lake, or name them with --dump",
        )
    try:
        found = find_dumps(lake, settings)
    except ReviewsumError as error:
        return _problem("reviews", str(error), "correct what it names")
    size = sum(dump.size for dump in found) / 1e6
    return _ok("reviews", f"{len(found)} files, {size:,.1f} MB")


def _model(lake: Lake, settings: Settings) -> tuple[Finding, ReadyModel | None]:
    try:
        name, model = examine_model(lake, settings)
    except ReviewsumError as error:
        return _problem("model", str(error), "name a model directory in model (--model)"), None
    if model is None:
        return _ok("model", f"{name}, examined once it is downloaded"), None
    text = f"{name}, {model.family}, {model.parameters / 1e6:,.0f} million parameters"
    if model.is_demo:
        remedy = "name a real model, such as a directory of google/pegasus-cnn_dailymail"
        return _warning("model", f"{text}: it knows the sample reviews only", remedy), model
    return _ok("model", text), model


def _devices(settings: Settings, model: ReadyModel | None) -> Iterator[Finding]:
    """What local jobs compute on."""
    engine = settings.engine_settings()
    shown = driver_gpus()
    try:
        devices = worker_devices(engine, model.parameters if model else 0)
    except JobError as error:
        yield _problem("device", str(error), "see the driver with nvidia-smi")
        return
    if devices[0].gpu is None:
        problem = find_gpus(engine).problem if engine.device == "auto" else ""
        text = f"{len(devices)} workers on {usable_cores()} CPU cores"
        if problem:
            yield _warning("device", f"{text}: {problem}", "update the driver, or set device cpu")
        else:
            yield _ok("device", text)
        return
    driver = f", driver {shown[0].driver}" if shown else ""
    yield _ok("device", f"{', '.join(map(str, devices))}{driver}")
    if engine.engine != "transformers":
        from reviewsum_assets.job.engines.ctranslate2_engine import NO_CUBLAS

        found = load_cublas()
        if found is None:
            yield _warning(
                "cuBLAS",
                "cuBLAS of CUDA 12 is not found, so that transformers computes, several times "
                "slower",
                NO_CUBLAS,
            )
        else:
            yield _ok("cuBLAS", str(found))


def _room(lake: Lake, model: ReadyModel | None) -> Iterator[Finding]:
    """Disk and memory of a local job."""
    needed = _LEAST_DISK_BYTES + _DISK_BYTES_PER_PARAMETER * (model.parameters if model else 0)
    for name, folder in (("disk of the lake", lake.directory), ("temporary disk", _temporary())):
        if folder is None:
            continue
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:,.1f} GB free at {folder}"
        if free < needed:
            remedy = f"make room: {needed / 1e9:,.1f} GB are needed"
            yield _warning(name, text, remedy)
        else:
            yield _ok(name, text)
    free = psutil.virtual_memory().available
    text = f"{free / 1e9:,.1f} GB free"
    # Converting holds the float32 weights twice.
    if model is not None and free < 2 * 4 * model.parameters:
        yield _warning("memory", text, "end other programs: converting the model needs more")
    else:
        yield _ok("memory", text)


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


def _engine(lake: Lake, settings: Settings, model: ReadyModel | None) -> Finding:
    """Which engine generates."""
    from reviewsum_assets.job.engines.choice import choose_engine

    conversion = None if model is None else read_conversion(lake, model.version)
    try:
        choice = choose_engine(
            settings.engine_settings(),
            settings.summary_settings(),
            # One that is still to be made counts as made.
            conversion.obstacle if conversion is not None else "",
        )
    except ReviewsumError as error:
        return _problem("engine", str(error), "set engine to auto")
    state = "converted" if conversion is not None else "to be converted by the first run"
    if choice.name == "ctranslate2":
        return _ok("engine", f"ctranslate2, {state}")
    if settings.engine == "transformers":
        return _ok("engine", "transformers, as engine says")
    return _warning("engine", f"transformers: {choice.reason}", "expect a slower job")


def _sagemaker(lake: Lake, settings: Settings) -> Iterator[Finding]:
    """What a SageMaker job needs, as far as these credentials may ask for it."""
    try:
        compute = compute_for(settings, lake)
        image = compute.image  # type: ignore[attr-defined]  # the one of SageMaker
    except ReviewsumError as error:
        yield _problem("job", str(error), "correct the setting that it names")
        return
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

    assert isinstance(compute, SageMakerCompute)
    yield from _service(compute)
    yield from _role(settings.role_arn)
    yield _ok("image", image.uri)
    for notice in compute.notices:
        yield _warning("image", notice, "see image_uri, image_cuda and image_python")
    for instance_type in compute.settings.instance_types:
        yield _instance(instance_type, settings)
        yield _quota(instance_type, settings.instance_count)
    yield _packages(compute, lake)


def _service(compute: SageMakerCompute) -> Iterator[Finding]:
    try:
        compute.api.describe(name="reviewsum-doctor")
    except ReviewsumError as error:
        yield _problem("SageMaker", str(error), "grant orchestrator_policy.json to this user")
    else:
        yield _ok("SageMaker", f"answers in {compute.region}")


def _role(role_arn: str) -> Iterator[Finding]:
    """Whether the job's role exists and SageMaker may assume it."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    name = role_arn.rpartition("/")[2]
    try:
        role = boto3.client("iam").get_role(RoleName=name)["Role"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchEntity":
            yield _problem(
                "role",
                f"there is no role {role_arn}",
                "create it with the policies in reviewsum_assets/compute/iam, or correct role_arn",
            )
        else:
            yield _warning("role", f"{role_arn} cannot be looked up: {error}", "look it up by hand")
        return
    except BotoCoreError as error:
        yield _warning("role", f"{role_arn} cannot be looked up: {error}", "look it up by hand")
        return
    if "sagemaker.amazonaws.com" not in str(role.get("AssumeRolePolicyDocument")):
        yield _problem(
            "role",
            f"SageMaker may not assume {role_arn}",
            "give it the trust policy job_role_trust.json",
        )
    else:
        yield _ok("role", role_arn)


def _instance(instance_type: str, settings: Settings) -> Finding:
    facts = instance_facts(instance_type)
    if facts is None:
        return _warning(
            "instance",
            f"price and GPUs of {instance_type} are not known here",
            "set usd_per_hour, so that estimates and max_cost_usd work",
        )
    price = facts.usd_per_hour if settings.usd_per_hour is None else settings.usd_per_hour
    return _ok(
        "instance",
        f"{settings.instance_count} x {instance_type}, {facts.gpus} {facts.gpu.name} of "
        f"{facts.gpu.memory_gb} GB, {price:.2f} USD per hour",
    )


def _quota(instance_type: str, count: int) -> Finding:
    """How many such instances the account may run for Processing at one time."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    name = f"{instance_type} for processing job usage"
    remedy = f"ask for {count} in the Service Quotas console: Amazon SageMaker, '{name}'"
    try:
        pages = boto3.client("service-quotas").get_paginator("list_service_quotas")
        found = next(
            (
                quota["Value"]
                for page in pages.paginate(ServiceCode="sagemaker")
                for quota in page["Quotas"]
                if quota["QuotaName"] == name
            ),
            None,
        )
    except (BotoCoreError, ClientError) as error:
        return _warning("quota", f"{name}: cannot be asked for: {error}", "look it up by hand")
    if found is None:
        return _warning("quota", f"{name}: not listed", "look it up by hand")
    if found < count:
        return _problem("quota", f"{name}: {found:.0f}, {count} are needed", remedy)
    return _ok("quota", f"{name}: {found:.0f}")


def _packages(compute: SageMakerCompute, lake: Lake) -> Finding:
    match compute.settings.package_source:
        case "image":
            return _ok("packages", "all in the image, as package_source says")
        case "lake" if compute.wheels is not None:
            stored = compute.wheels.are_stored(lake)
            when = "on the lake" if stored else "downloaded and stored by the first run"
            return _ok("packages", f"wheels for Python {compute.wheels.python}, {when}")
    return _warning(
        "packages",
        "the job installs them from a package index",
        "set package_source to lake where the job reaches none, as in a VPC without NAT",
    )
