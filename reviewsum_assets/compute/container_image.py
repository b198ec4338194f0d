"""Container image of a Processing job, and what its name says of its contents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from reviewsum_assets.errors import SettingsError
from reviewsum_assets.settings import SageMakerSettings

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
