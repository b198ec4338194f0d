from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from reviewsum_assets.compute.job_package import CUBLAS_12, build_package
from reviewsum_assets.compute.processing_request import ContainerImage, container_image
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.settings import load_settings


def image(region: str = "us-east-1", **settings: Any) -> ContainerImage:
    return container_image(load_settings(**settings).sagemaker_settings(), region)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_the_default_is_the_regions_own_pytorch_gpu_image(region: str) -> None:
    found = image(region)
    assert found.uri == (
        f"763104351884.dkr.ecr.{region}.amazonaws.com/huggingface-pytorch-training:"
        "2.8.0-transformers4.56.2-gpu-py312-cu129-ubuntu22.04"
    )
    assert (found.python, found.cuda) == ("3.12", "12")


def test_an_image_with_cuda_13_can_be_chosen_and_its_job_brings_cublas_of_cuda_12() -> None:
    found = image(image_cuda="13")
    assert found.uri.endswith(":2.9.0-transformers5.3.0-gpu-py312-cu130-ubuntu22.04")
    assert (found.python, found.cuda) == ("3.12", "13")
    assert CUBLAS_12 in build_package(cuda=found.cuda).requirements.decode()
    assert "cublas" not in build_package(cuda="12").requirements.decode()


def test_an_image_that_aws_patches_no_more_is_said_to_be_so() -> None:
    found = image()
    assert found.outdated(date(2026, 8, 6)) == ""
    assert "ended security patches of the image" in found.outdated(date(2026, 8, 7))
    assert "2026-08-06" in found.outdated(date(2026, 8, 7))


def test_of_an_own_image_its_name_and_the_settings_tell() -> None:
    own = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/summaries:7"
    assert image(image_uri=own) == ContainerImage(own)
    assert image(image_uri=own, image_python="3.11").python == "3.11"
    assert image(image_uri=f"{own}-py310-cu124").python == "3.10"
    assert image(image_uri=f"{own}-py310-cu124").cuda == "12"
    assert ContainerImage(own).outdated(date(2030, 1, 1)) == ""


def test_a_python_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="image_python"):
        load_settings(image_python="py312")


def test_a_region_without_images_asks_for_one() -> None:
    with pytest.raises(SettingsError, match="set image_uri"):
        image("xx-nowhere-1")


@pytest.mark.parametrize("instance_type", ["g5.12xlarge", "ml.m5.large", "ml.nonsense.large"])
def test_an_instance_type_without_an_image_is_named_with_its_setting(instance_type: str) -> None:
    with pytest.raises(SettingsError) as caught:
        image(instance_type=instance_type)
    assert f"instance_type '{instance_type}' in region us-east-1" in str(caught.value)
    assert "upgrade" not in str(caught.value)
