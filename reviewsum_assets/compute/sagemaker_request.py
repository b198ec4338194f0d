"""The request that creates a Processing job, and the container image that it names."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from reviewsum_assets.checkpoints.plan import Recipe
from reviewsum_assets.compute.job_package import ENTRY_POINT, JobPackage, JobWheels
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.spec import JobSpec, ProvidedInputs
from reviewsum_assets.settings import SageMakerSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import spec_key

# AWS's images with PyTorch and transformers, by the major version of their CUDA: transformers,
# PyTorch. CUDA 12.9 works with the drivers of all g4dn, g5 and g6 hosts; CUDA 13 needs driver 580.
_AWS_IMAGES = {"12": ("4.56.2", "pytorch2.8.0"), "13": ("5.3.0", "pytorch2.9.0")}
_PYTHON = "py312"
# Last day of security patches by PyTorch version:
# https://aws.github.io/deep-learning-containers/reference/support_policy
_END_OF_PATCH = {
    "2.6": date(2026, 1, 29),
    "2.7": date(2026, 4, 23),
    "2.8": date(2026, 8, 6),
    "2.9": date(2026, 10, 15),
    "2.10": date(2027, 1, 21),
}

_ROOT = "/opt/ml/processing"
_CODE = f"{_ROOT}/input/code"
_SPEC = f"{_ROOT}/input/spec"
PROVIDED = ProvidedInputs(
    grouped_reviews=f"{_ROOT}/input/grouped_reviews", model=f"{_ROOT}/pegasus_model"
)
SPEC_HASH = "REVIEWSUM_SPEC_HASH"  # shows whether a job of a known name does the wanted work
SPEC_INPUT = "spec"
# The lake's encryption on S3 is the same in the job as here.
_FORWARDED = ("AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "REVIEWSUM_LOG_LEVEL")
_TAG_FORBIDDEN = re.compile(r"[^\w\s.:/=+\-@]")


@dataclass(frozen=True)
class ContainerImage:
    """An image. ``python`` is such as 3.12, ``cuda`` such as 12; empty if unknown."""

    uri: str
    python: str = ""
    cuda: str = ""
    end_of_patch: date | None = None

    def outdated(self, today: date) -> str:
        """Return a warning if AWS no longer patches the image, else nothing."""
        if self.end_of_patch is None or today <= self.end_of_patch:
            return ""
        return (
            f"AWS ended security patches of the image {self.uri} on {self.end_of_patch}: set "
            "image_uri to a newer image where a policy requires one"
        )


def container_image(settings: SageMakerSettings, region: str) -> ContainerImage:
    """Return the image that the settings name, or AWS's own image in this region.

    Raises:
        SettingsError: AWS publishes none for this region or instance type.
    """
    uri = settings.image_uri or _aws_image_uri(settings, region)
    python = re.search(r"\bpy3(\d+)\b", uri)
    cuda = re.search(r"\bcu(\d{2})\d\b", uri)
    framework = re.search(r"\.dkr\.ecr\.[^/]*/(?:huggingface-)?pytorch-\w+:(\d+\.\d+)", uri)
    return ContainerImage(
        uri=uri,
        python=settings.image_python or (f"3.{python[1]}" if python else ""),
        cuda=cuda[1] if cuda else "",
        end_of_patch=_END_OF_PATCH.get(framework[1]) if framework else None,
    )


def _aws_image_uri(settings: SageMakerSettings, region: str) -> str:
    # Takes seconds to import.
    from sagemaker.core import image_uris

    transformers, pytorch = _AWS_IMAGES[settings.image_cuda]
    try:
        found: str = image_uris.retrieve(
            framework="huggingface",
            region=region,
            version=transformers,
            base_framework_version=pytorch,
            py_version=_PYTHON,
            instance_type=settings.instance_type,
            image_scope="training",  # there is none for Processing; training images run anything
        )
    except ValueError as error:
        raise SettingsError(
            f"AWS has no image for instance_type {settings.instance_type!r} in region {region}: "
            "name an existing type with GPUs, such as ml.g5.12xlarge, and a region of SageMaker, "
            "or set image_uri"
        ) from error
    return found


def inputs_manifest_key(job: str) -> str:
    """Return the key of the list of a job's grouped reviews."""
    return f"{places.PROCESSING_JOBS}/{job}/grouped_reviews.manifest"


def inputs_manifest(lake: Lake, spec: JobSpec) -> bytes:
    """Return the manifest file that copies only the needed grouped reviews into the container.

    Its layout: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3DataSource.html
    """
    keys = [planned.input_key for planned in spec.checkpoints]
    return json.dumps([{"prefix": f"{lake.uri}/"}, *keys]).encode()


def main_recipe(spec: JobSpec) -> Recipe:
    """Return the recipe of most products, whose model is copied; the job fetches the others."""
    products: Counter[str] = Counter()
    for planned in spec.checkpoints:
        products[planned.recipe] += planned.products
    return spec.recipes[max(products, key=lambda key: (products[key], key))]


def processing_request(
    *,
    lake: Lake,
    spec: JobSpec,
    package: JobPackage,
    wheels: JobWheels | None,
    model_prefix: str,
    settings: SageMakerSettings,
    image_uri: str,
    region: str,
    max_runtime_seconds: int,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Return the keyword arguments of boto3's ``create_processing_job``.

    Args:
        spec: Spec with its final name.
        wheels: Wheels that the job installs from the lake; None: it uses a package index.
        model_prefix: Prefix of the model's files, as the job's engine reads them.
        tags: Tags of the Dagster run; ``settings.job_tags`` take precedence.
    """
    inputs = [
        ("code", f"{package.prefix}/", _CODE),
        (SPEC_INPUT, spec_key(spec.name), _SPEC),
        ("model", f"{model_prefix}/", PROVIDED.model),
        ("grouped_reviews", inputs_manifest_key(spec.name), PROVIDED.grouped_reviews),
    ]
    if wheels is not None:
        inputs.append(("wheels", f"{wheels.prefix}/", f"{_ROOT}/input/wheels"))
    all_tags = {**tags, **settings.job_tags}
    return {
        "ProcessingJobName": spec.name,
        "RoleArn": settings.role_arn,
        "AppSpecification": {
            "ImageUri": image_uri,
            # No shell in between: signals have to reach Python.
            "ContainerEntrypoint": ["python3", f"{_CODE}/{ENTRY_POINT}"],
            "ContainerArguments": [
                *("--spec", f"{_SPEC}/spec.json"),
                *("--resource_config", "/opt/ml/config/resourceconfig.json"),
                *("--message_file", "/opt/ml/output/message"),
            ],
        },
        "ProcessingInputs": [
            {
                "InputName": name,
                "S3Input": {
                    "S3Uri": f"{lake.uri}/{key}",
                    "LocalPath": directory,
                    "S3DataType": "ManifestFile" if key.endswith(".manifest") else "S3Prefix",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "FullyReplicated",
                },
            }
            for name, key, directory in inputs
        ],
        "ProcessingResources": {"ClusterConfig": _cluster(settings)},
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime_seconds},
        "Environment": {
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            SPEC_HASH: spec.work_hash,
            # With fallback types the job cannot know its own type; its manifests say so.
            "REVIEWSUM_INSTANCE_TYPE": " or ".join(settings.instance_types),
            **{name: os.environ[name] for name in _FORWARDED if name in os.environ},
            **settings.job_environment,
        },
        "Tags": [
            {"Key": key, "Value": _TAG_FORBIDDEN.sub("-", all_tags[key])[:256]}
            for key in sorted(all_tags)
        ],
        **_network(settings),
    }


def _cluster(settings: SageMakerSettings) -> dict[str, Any]:
    cluster: dict[str, Any] = {"VolumeSizeInGB": settings.volume_gb}
    if settings.volume_kms_key:
        cluster["VolumeKmsKeyId"] = settings.volume_kms_key
    types = [
        {"InstanceType": name, "InstanceCount": settings.instance_count}
        for name in settings.instance_types
    ]
    return cluster | (types[0] if len(types) == 1 else {"InstancePreferences": types})


def _network(settings: SageMakerSettings) -> dict[str, Any]:
    network: dict[str, Any] = {}
    if settings.encrypt_traffic:
        network["EnableInterContainerTrafficEncryption"] = True
    if settings.subnets or settings.security_groups:
        network["VpcConfig"] = {
            "Subnets": list(settings.subnets),
            "SecurityGroupIds": list(settings.security_groups),
        }
    return {"NetworkConfig": network} if network else {}
