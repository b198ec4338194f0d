from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint, Recipe
from reviewsum_assets.compute.job_package import JobPackage, JobWheels
from reviewsum_assets.compute.sagemaker_request import (
    PROVIDED,
    ContainerImage,
    container_image,
    inputs_manifest,
    processing_request,
)
from reviewsum_assets.errors import SettingsError
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake

ROLE = "arn:aws:iam::123456789012:role/reviewsum-job"
PACKAGE = JobPackage({"run_processing.py": b"", "requirements.txt": b"", "x.zip": b""})


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return Lake.open("s3://bucket/lake")


def spec() -> JobSpec:
    settings = load_settings()
    recipe = Recipe(model_version="0123456789abcdef", settings=settings.summary_settings())
    planned = PlannedCheckpoint(
        number=1,
        products=100,
        data_version="d" * 32,
        recipe=recipe.key,
        plan_id="p" * 12,
        input_sha256="",
    )
    return JobSpec(
        name="reviewsum-pppppppppppp-0a1b2c3d-abcdef-1",
        lake="s3://bucket/lake",
        plan_id="p" * 12,
        checkpoints=(planned,),
        recipes={recipe.key: recipe},
        engine=settings.engine_settings(),
        provided=PROVIDED,
    )


def request(lake: Lake, wheels: JobWheels | None = None, **settings: Any) -> dict[str, Any]:
    return processing_request(
        lake=lake,
        spec=spec(),
        package=PACKAGE,
        wheels=wheels,
        model_prefix="models/0123456789abcdef",
        settings=load_settings(role_arn=ROLE, **settings),
        image_uri="123.dkr.ecr.eu-west-1.amazonaws.com/image:1",
        region="eu-west-1",
        max_runtime_seconds=3600,
        tags={"dagster/run_id": "r1"},
    )


def test_inputs_lie_at_their_places_in_the_container(lake: Lake) -> None:
    name, wheels = spec().name, JobWheels(PACKAGE.requirements, "3.12")
    found = request(lake, wheels)
    assert found["AppSpecification"]["ContainerEntrypoint"] == [
        "python3",
        "/opt/ml/processing/input/code/run_processing.py",
    ]
    inputs = [source["S3Input"] for source in found["ProcessingInputs"]]
    assert {one["S3Uri"]: one["LocalPath"] for one in inputs} == {
        f"s3://bucket/lake/{key}": f"/opt/ml/processing/{path}"
        for key, path in {
            f"job_code/{PACKAGE.version}/": "input/code",
            f"processing_jobs/{name}/spec.json": "input/spec",
            "models/0123456789abcdef/": "pegasus_model",
            f"processing_jobs/{name}/grouped_reviews.manifest": "input/grouped_reviews",
            f"{wheels.prefix}/": "input/wheels",
        }.items()
    }
    assert [one["S3DataType"] for one in inputs].count("ManifestFile") == 1
    assert request(lake)["ProcessingInputs"] == found["ProcessingInputs"][:-1]
    assert found["Environment"]["REVIEWSUM_SPEC_HASH"] == spec().work_hash
    assert json.loads(inputs_manifest(lake, spec())) == [
        {"prefix": "s3://bucket/lake/"},
        "grouped_reviews/plans/pppppppppppp/checkpoint_1.parquet",
    ]


def test_every_setting_has_its_field(lake: Lake) -> None:
    found = request(
        lake,
        instance_count=3,
        fallback_instance_types="ml.g5.24xlarge, ml.g5.48xlarge",
        volume_gb=200,
        volume_kms_key="arn:aws:kms:eu-west-1:123456789012:key/1",
        subnets="subnet-1,subnet-2",
        security_groups="sg-1",
        encrypt_traffic=True,
        job_tags="team=reviews,cost centre=42",
        job_environment="HF_HUB_OFFLINE=1",
    )
    assert found["ProcessingResources"]["ClusterConfig"] == {
        "InstancePreferences": [
            {"InstanceType": name, "InstanceCount": 3}
            for name in ("ml.g5.12xlarge", "ml.g5.24xlarge", "ml.g5.48xlarge")
        ],
        "VolumeSizeInGB": 200,
        "VolumeKmsKeyId": "arn:aws:kms:eu-west-1:123456789012:key/1",
    }
    assert found["NetworkConfig"] == {
        "EnableInterContainerTrafficEncryption": True,
        "VpcConfig": {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
    }
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {
        "dagster/run_id": "r1",
        "team": "reviews",
        "cost centre": "42",
    }
    assert found["Environment"]["HF_HUB_OFFLINE"] == "1"


AWS_IMAGE = "763104351884.dkr.ecr.{}.amazonaws.com/huggingface-pytorch-training:{}-ubuntu22.04"
CUDA_12 = "2.8.0-transformers4.56.2-gpu-py312-cu129"
CUDA_13 = "2.9.0-transformers5.3.0-gpu-py312-cu130"
OWN = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/summaries:7"


def image(region: str = "us-east-1", **settings: Any) -> ContainerImage:
    return container_image(load_settings(**settings), region)


@pytest.mark.parametrize(
    ("region", "settings", "uri", "python", "cuda"),
    [
        ("us-east-1", {}, AWS_IMAGE.format("us-east-1", CUDA_12), "3.12", "12"),
        ("eu-west-1", {}, AWS_IMAGE.format("eu-west-1", CUDA_12), "3.12", "12"),
        ("us-east-1", {"image_cuda": "13"}, AWS_IMAGE.format("us-east-1", CUDA_13), "3.12", "13"),
        ("us-east-1", {"image_uri": OWN}, OWN, "", ""),
        ("us-east-1", {"image_uri": OWN, "image_python": "3.11"}, OWN, "3.11", ""),
        ("us-east-1", {"image_uri": f"{OWN}-py310-cu124"}, f"{OWN}-py310-cu124", "3.10", "12"),
    ],
)
def test_the_image_is_the_regions_own_or_the_one_that_the_settings_name(
    region: str, settings: dict[str, str], uri: str, python: str, cuda: str
) -> None:
    found = image(region, **settings)
    assert (found.uri, found.python, found.cuda) == (uri, python, cuda)


def test_an_image_that_aws_no_longer_patches_gives_a_warning() -> None:
    found = image()
    assert found.outdated(date(2026, 8, 6)) == ""
    assert "ended security patches of the image" in found.outdated(date(2026, 8, 7))
    assert "2026-08-06" in found.outdated(date(2026, 8, 7))
    assert ContainerImage(OWN).outdated(date(2030, 1, 1)) == ""


@pytest.mark.parametrize("instance_type", ["g5.12xlarge", "ml.m5.large", "ml.nonsense.large"])
def test_an_instance_type_or_a_region_without_an_image_is_named(instance_type: str) -> None:
    with pytest.raises(SettingsError, match=f"'{instance_type}' in region us-east-1"):
        image(instance_type=instance_type)
    with pytest.raises(SettingsError, match="set image_uri"):
        image("xx-nowhere-1")
