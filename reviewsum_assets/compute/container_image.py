"""Which container image a Processing job runs in."""

from __future__ import annotations

from reviewsum_assets.errors import SettingsError

# The image brings PyTorch and transformers. cu129 works with the drivers of all g5 and g6 hosts;
# later images are built for CUDA 13, which needs newer ones.
_FRAMEWORK = "huggingface"
_TRANSFORMERS = "4.56.2"
_PYTORCH = "pytorch2.8.0"
_PYTHON = "py312"


def default_image_uri(region: str, instance_type: str) -> str:
    """The PyTorch GPU image that AWS publishes in this region.

    There is no scope for Processing: training images run anything.

    Raises:
        SettingsError: AWS publishes none for this region or instance type.
    """
    # Takes seconds to import.
    from sagemaker.core import image_uris

    try:
        found: str = image_uris.retrieve(
            framework=_FRAMEWORK,
            region=region,
            version=_TRANSFORMERS,
            base_framework_version=_PYTORCH,
            py_version=_PYTHON,
            instance_type=instance_type,
            image_scope="training",
        )
    except ValueError as error:
        raise SettingsError(
            f"AWS has no image for instance_type {instance_type!r} in region {region}: name a type "
            "that there is and has GPUs, such as ml.g5.12xlarge, and a region of SageMaker, or set "
            "image_uri"
        ) from error
    return found
