"""Diagnosis before a run: what will work, what will not, and what to do about it.

Every check uses the same code as a run does, and costs nothing: no job is started, and of what is
written to the lake nothing stays.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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

if TYPE_CHECKING:
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

# A model of 571 million parameters as it came, made ready and converted.
_LEAST_DISK_BYTES = 5 * 10**9


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
    if settings.compute == "sagemaker" or settings.lake.startswith("s3://"):
        found = _credentials(is_needed=settings.compute == "sagemaker")
        yield found
        if found.state == "problem":
            return
    with _leaving_no_directory(settings.lake):
        yield from _on_a_lake(settings)


def _on_a_lake(settings: Settings) -> Iterator[Finding]:
    try:
        lake = Lake.open(settings.lake)
    except ReviewsumError as error:
        yield _problem("lake", str(error), "set lake to a directory or to s3://bucket/prefix")
        return
    has_problem = False
    for found in _tried("lake", _lake(lake)):
        has_problem = has_problem or found.state == "problem"
        yield found
    if has_problem:
        return
    yield from _tried("reviews", _dumps(lake, settings))
    if settings.compute == "local":
        yield from _tried("disk", _disk(lake))
    seen: list[ReadyModel] = []
    yield from _tried("model", _model(lake, settings, seen))
    model = seen[0] if seen else None
    if settings.compute == "sagemaker":
        yield from _tried("job", _sagemaker(lake, settings))
    else:
        yield from _tried("device", _devices(settings, model))
        yield from _tried("memory", _memory(model))
    yield from _tried("engine", _engine(lake, settings, model))


def _tried(subject: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Pass findings on; an error that ends them is a finding too."""
    try:
        yield from findings
    except (ReviewsumError, OSError) as error:
        yield _problem(subject, str(error), "correct what the message names")


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


def _ok(subject: str, text: str) -> Finding:
    return Finding(subject=subject, state="ok", text=text)


def _warning(subject: str, text: str, remedy: str) -> Finding:
    return Finding(subject=subject, state="warning", text=text, remedy=remedy)


def _problem(subject: str, text: str, remedy: str) -> Finding:
    return Finding(subject=subject, state="problem", text=text, remedy=remedy)


def _credentials(*, is_needed: bool) -> Finding:
    """The identity that AWS knows this process by; a store of another kind may know none."""
    bad = _problem if is_needed else _warning
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return bad("credentials", "the AWS libraries are not installed", "pip install '.[aws]'")
    remedy = "log in to AWS, or set AWS_PROFILE or the other AWS_* variables of this process"
    try:
        session = boto3.Session()
        if session.get_credentials() is None:
            # Without any, a look at the lake would wait minutes for those of an EC2 instance.
            return _problem("credentials", "there are no AWS credentials", remedy)
        region = session.region_name or os.environ.get("AWS_REGION")
        if region is None:
            return bad("region", "no AWS region is set", "set AWS_DEFAULT_REGION")
        caller = session.client("sts", region_name=region).get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return bad("credentials", f"AWS does not say whose they are: {error}", remedy)
    return _ok("credentials", f"{caller['Arn']} in {region}")


def _lake(lake: Lake) -> Iterator[Finding]:
    """Whether it can be read, written, and gives an object to one writer only."""
    try:
        lake.require_writable()
    except ReviewsumError as error:
        yield _problem(
            "lake", str(error), "grant this user reading, writing and deleting below the lake"
        )
        return
    yield _ok("lake", f"{lake.uri} can be read and written")
    try:
        lake.require_exclusive_create()
    except ReviewsumError as error:
        yield _problem("one writer", str(error), "use a store with conditional writes, as AWS S3")
        return
    yield _ok("one writer", "of two writers of an object one succeeds")


def _dumps(lake: Lake, settings: Settings) -> Iterator[Finding]:
    if not settings.dumps and not has_dumps(lake):
        yield _warning(
            "reviews",
            "there are none: `reviewsum run` would use the sample reviews",
            "put dumps into review_dumps/ of the lake, or name them with --dump",
        )
        return
    found = find_dumps(lake, settings)
    size = sum(dump.size for dump in found) / 1e6
    yield _ok("reviews", f"{len(found)} files, {size:,.1f} MB")


def _model(lake: Lake, settings: Settings, seen: list[ReadyModel]) -> Iterator[Finding]:
    """The model; what is known of it is appended to ``seen``."""
    name, model = examine_model(lake, settings)
    if model is None:
        yield _ok("model", f"{name}, examined once it is downloaded")
        return
    seen.append(model)
    text = f"{name}, {model.family}, {model.parameters / 1e6:,.0f} million parameters"
    if model.is_demo:
        remedy = "name a real model, such as a directory of google/pegasus-cnn_dailymail"
        yield _warning("model", f"{text}: it knows the sample reviews only", remedy)
    else:
        yield _ok("model", text)


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


def _disk(lake: Lake) -> Iterator[Finding]:
    """Disk of a local job, where the model is made ready and the results lie."""
    folders = {"disk of the lake": lake.directory, "temporary disk": Path(tempfile.gettempdir())}
    for name, folder in folders.items():
        if folder is None:
            continue
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:,.1f} GB free at {folder}"
        if free < _LEAST_DISK_BYTES:
            yield _warning(name, text, "make room: a model of usual size needs 5 GB")
        else:
            yield _ok(name, text)


def _memory(model: ReadyModel | None) -> Iterator[Finding]:
    free = psutil.virtual_memory().available
    text = f"{free / 1e9:,.1f} GB free"
    # Converting holds the float32 weights twice.
    if model is not None and free < 2 * 4 * model.parameters:
        yield _warning("memory", text, "end other programs: converting the model needs more")
    else:
        yield _ok("memory", text)


def _engine(lake: Lake, settings: Settings, model: ReadyModel | None) -> Iterator[Finding]:
    """Which engine generates."""
    conversion = None if model is None else read_conversion(lake, model.version)
    choice = choose_engine(
        settings.engine_settings(),
        settings.summary_settings(),
        # One that is still to be made counts as made.
        conversion.obstacle if conversion is not None else "",
    )
    state = "converted" if conversion is not None else "to be converted by the first run"
    if choice.name == "ctranslate2":
        yield _ok("engine", f"ctranslate2, {state}")
    elif settings.engine == "transformers":
        yield _ok("engine", "transformers, as engine says")
    else:
        yield _warning("engine", f"transformers: {choice.reason}", "expect a slower job")


def _sagemaker(lake: Lake, settings: Settings) -> Iterator[Finding]:
    """What a SageMaker job needs, as far as these credentials may ask for it."""
    compute = compute_for(settings, lake)
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

    assert isinstance(compute, SageMakerCompute)
    yield from _service(compute)
    yield from _role(settings.role_arn)
    yield _ok("image", compute.image.uri)
    for notice in compute.notices:
        yield _warning("image", notice, "see image_uri, image_cuda and image_python")
    quotas = _quotas()
    for instance_type in compute.settings.instance_types:
        yield _instance(instance_type, settings)
        if isinstance(quotas, Finding):
            yield quotas
        else:
            is_first = instance_type == settings.instance_type
            yield _quota(instance_type, settings.instance_count, quotas, is_first=is_first)
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


def _quotas() -> Mapping[str, float] | Finding:
    """The account's quotas of SageMaker by name, or why they are not known."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        pages = boto3.client("service-quotas").get_paginator("list_service_quotas")
        return {
            quota["QuotaName"]: quota["Value"]
            for page in pages.paginate(ServiceCode="sagemaker")
            for quota in page["Quotas"]
        }
    except (BotoCoreError, ClientError) as error:
        return _warning("quota", f"quotas cannot be asked for: {error}", "look them up by hand")


def _quota(
    instance_type: str, count: int, quotas: Mapping[str, float], *, is_first: bool
) -> Finding:
    """How many such instances the account may run for Processing at one time."""
    name = f"{instance_type} for processing job usage"
    found = quotas.get(name)
    if found is None:
        return _warning("quota", f"{name}: not listed", "look it up by hand")
    if found < count:
        bad = _problem if is_first else _warning  # of a fallback
        remedy = f"ask for {count} in the Service Quotas console: Amazon SageMaker, '{name}'"
        return bad("quota", f"{name}: {found:.0f}, {count} are needed", remedy)
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
