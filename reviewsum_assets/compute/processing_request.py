"""Container image of a Processing job, and what its name says of its contents."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from reviewsum_assets.checkpoints.plan import Recipe
from reviewsum_assets.compute.job_package import ENTRY_POINT, JobPackage, JobWheels
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.spec import JobSpec, ProvidedInputs, spec_key
from reviewsum_assets.settings import SageMakerSettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

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


@dataclass(frozen=True)
class ContainerImage:
    """An image. ``python`` is such as 3.12, ``cuda`` such as 12; empty where that is not known."""

    uri: str
    python: str = ""
    cuda: str = ""
    end_of_patch: date | None = None

    def outdated(self, today: date) -> str:
        """Sentence that says since when AWS patches it no more; empty if it does."""
        if self.end_of_patch is None or today <= self.end_of_patch:
            return ""
        return (
            f"AWS ended security patches of the image {self.uri} on {self.end_of_patch}: set "
            "image_uri to a newer image where a policy asks for one"
        )


def container_image(settings: SageMakerSettings, region: str) -> ContainerImage:
    """The image that the settings name, else the one that AWS publishes in this region.

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
    """There is no scope for Processing: training images run anything."""
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
            image_scope="training",
        )
    except ValueError as error:
        raise SettingsError(
            f"AWS has no image for instance_type {settings.instance_type!r} in region {region}: "
            "name a type that there is and has GPUs, such as ml.g5.12xlarge, and a region of "
            "SageMaker, or set image_uri"
        ) from error
    return found


_ROOT = "/opt/ml/processing"
_CODE = f"{_ROOT}/input/code"
_SPEC = f"{_ROOT}/input/spec"
_WHEELS = f"{_ROOT}/input/wheels"
_RESOURCE_CONFIG = "/opt/ml/config/resourceconfig.json"
_MESSAGE_FILE = "/opt/ml/output/message"
PROVIDED = ProvidedInputs(
    grouped_reviews=f"{_ROOT}/input/grouped_reviews", model=f"{_ROOT}/pegasus_model"
)

SPEC_HASH = "REVIEWSUM_SPEC_HASH"
SPEC_INPUT = "spec"
# How objects are encrypted on S3 is the lake's matter, in the job as here.
_FORWARDED = ("AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "REVIEWSUM_LOG_LEVEL")
_TAG_FORBIDDEN = re.compile(r"[^\w\s.:/=+\-@]")


def spec_hash(spec: JobSpec) -> str:
    """Tells whether a job of a known name does the work that is wanted."""
    return spec.work_hash[:32]


def inputs_manifest_key(job: str) -> str:
    """Where the list of a job's grouped reviews lies on the lake."""
    return f"{places.PROCESSING_JOBS}/{job}/grouped_reviews.manifest"


def inputs_manifest(lake: Lake, spec: JobSpec) -> bytes:
    """The manifest file that has just the needed grouped reviews copied into the container.

    Its layout: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3DataSource.html
    """
    keys = [planned.input_key for planned in spec.checkpoints]
    return json.dumps([{"prefix": f"{lake.uri}/"}, *keys]).encode()


def main_recipe(spec: JobSpec) -> Recipe:
    """The recipe of most products, whose model is copied; others are fetched by the job itself."""
    products: dict[str, int] = {}
    for planned in spec.checkpoints:
        products[planned.recipe] = products.get(planned.recipe, 0) + planned.products
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
    """Keyword arguments of boto3's ``create_processing_job``.

    Args:
        lake: on S3; the job reads and writes it.
        spec: with its final name.
        package: the code, published to the lake.
        wheels: that the job installs, stored on the lake; None: it asks a package index.
        model_prefix: of the model's files, as the job's engine reads them.
        settings: instances, disk, role, network, tags, environment.
        image_uri: of the container.
        region: of the job and the lake.
        max_runtime_seconds: when SageMaker ends the job by force.
        tags: of the Dagster run; ``settings.job_tags`` win.
    """
    return {
        "ProcessingJobName": spec.name,
        "RoleArn": settings.role_arn,
        "AppSpecification": {
            "ImageUri": image_uri,
            # No shell in between: signals have to reach Python.
            "ContainerEntrypoint": ["python3", f"{_CODE}/{ENTRY_POINT}"],
            "ContainerArguments": [
                "--spec",
                f"{_SPEC}/spec.json",
                "--resource_config",
                _RESOURCE_CONFIG,
                "--message_file",
                _MESSAGE_FILE,
            ],
        },
        "ProcessingInputs": [
            _input("code", lake.uri_of(package.prefix) + "/", _CODE),
            _input(SPEC_INPUT, lake.uri_of(spec_key(spec.name)), _SPEC),
            _input(
                "model",
                lake.uri_of(model_prefix) + "/",
                PROVIDED.model,
            ),
            _input(
                "grouped_reviews",
                lake.uri_of(inputs_manifest_key(spec.name)),
                PROVIDED.grouped_reviews,
                data_type="ManifestFile",
            ),
            *([_input("wheels", lake.uri_of(wheels.prefix) + "/", _WHEELS)] if wheels else []),
        ],
        "ProcessingResources": {"ClusterConfig": _cluster(settings)},
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime_seconds},
        "Environment": _environment(spec, settings, region),
        "Tags": _tags({**tags, **settings.job_tags}),
        **_network(settings),
    }


def _input(name: str, uri: str, directory: str, data_type: str = "S3Prefix") -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": uri,
            "LocalPath": directory,
            "S3DataType": data_type,
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
        },
    }


def _cluster(settings: SageMakerSettings) -> dict[str, Any]:
    cluster: dict[str, Any] = {"VolumeSizeInGB": settings.volume_gb}
    if settings.volume_kms_key:
        cluster["VolumeKmsKeyId"] = settings.volume_kms_key
    if not settings.fallback_instance_types:
        return cluster | {
            "InstanceType": settings.instance_type,
            "InstanceCount": settings.instance_count,
        }
    return cluster | {
        "InstancePreferences": [
            {"InstanceType": name, "InstanceCount": settings.instance_count}
            for name in settings.instance_types
        ]
    }


def _environment(spec: JobSpec, settings: SageMakerSettings, region: str) -> dict[str, str]:
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        SPEC_HASH: spec_hash(spec),
        # With fallback types the job cannot know which one it got; its manifests say so.
        "REVIEWSUM_INSTANCE_TYPE": " or ".join(settings.instance_types),
        **{name: os.environ[name] for name in _FORWARDED if name in os.environ},
        **settings.job_environment,
    }


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": _TAG_FORBIDDEN.sub("-", tags[key])[:256]} for key in sorted(tags)]


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
