"""Every documented limit is enforced, and the refusal names the field."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.processing_emulator.workbench import ROLE, Workbench, request, s3_input, s3_output
from tests.support.processing.requests import InvalidRequestError, check_request

APP = request()["AppSpecification"]
CLUSTER = request()["ProcessingResources"]["ClusterConfig"]
TAG = {"Key": "team", "Value": "reviews"}


def app(**fields: Any) -> dict[str, Any]:
    return {"AppSpecification": {**APP, **fields}}


def cluster(**fields: Any) -> dict[str, Any]:
    return {"ProcessingResources": {"ClusterConfig": {**CLUSTER, **fields}}}


def inputs(count: int = 1, **fields: str) -> dict[str, Any]:
    made = [s3_input(f"data-{number}", "s3://reviews/in", **fields) for number in range(count)]
    return {"ProcessingInputs": made}


def outputs(count: int = 1, **fields: str) -> dict[str, Any]:
    made = [s3_output(f"out-{number}") for number in range(count)]
    for output in made:
        output["S3Output"].update(fields)
    return {"ProcessingOutputConfig": {"Outputs": made}}


def runtime(seconds: int) -> dict[str, Any]:
    return {"StoppingCondition": {"MaxRuntimeInSeconds": seconds}}


ACCEPTED = {
    "a name of 63 characters": {"ProcessingJobName": "a" * 63},
    "100 variables": {"Environment": {f"V{n}": "x" * 256 for n in range(100)}},
    "a variable of several lines": {"Environment": {"V": "a\nb"}},
    "100 arguments": app(ContainerArguments=["x" * 256] * 100),
    "10 inputs": inputs(10),
    "10 outputs": outputs(10),
    "50 tags": {"Tags": [{"Key": f"k{n}", "Value": "ä b/c"} for n in range(50)]},
    "nine days": runtime(777_600),
    "100 hosts": cluster(InstanceCount=100),
    "a volume of 16 TiB": cluster(VolumeSizeInGB=16_384),
    "no stopping condition": {"StoppingCondition": None},
    "instance types to choose from": cluster(
        InstanceType=None, InstancePreferences=[{"InstanceType": "ml.g5.12xlarge"}]
    ),
}

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("processingJobName", {"ProcessingJobName": "a" * 64}),
    ("processingJobName", {"ProcessingJobName": "under_score"}),
    ("processingJobName", {"ProcessingJobName": "ends-"}),
    ("environment", {"Environment": {f"V{n}": "" for n in range(101)}}),
    ("environment.LONG.member", {"Environment": {"LONG": "x" * 257}}),
    ("environment.key", {"Environment": {"X" * 257: ""}}),
    ("environment.key", {"Environment": {"1X": ""}}),
    ("environment.NUMBER.member", {"Environment": {"NUMBER": 1}}),
    ("appSpecification.containerEntrypoint", app(ContainerEntrypoint=[])),
    ("appSpecification.containerEntrypoint", app(ContainerEntrypoint=["x"] * 101)),
    ("appSpecification.containerEntrypoint.2.member", app(ContainerEntrypoint=["a", "x" * 257])),
    ("appSpecification.containerArguments", app(ContainerArguments=[])),
    ("appSpecification.containerArguments", app(ContainerArguments=["x"] * 101)),
    ("appSpecification.containerArguments.1.member", app(ContainerArguments=["x" * 257])),
    ("appSpecification.containerArguments.1.member", app(ContainerArguments=["two\nlines"])),
    ("appSpecification.imageUri", app(ImageUri="x" * 256)),
    ("appSpecification.command", app(Command=["x"])),
    ("processingInputs", inputs(11)),
    ("processingInputs.1.member.s3Input.s3Uri", inputs(S3Uri="s3://b/" + "x" * 1018)),
    ("processingInputs.1.member.s3Input.s3Uri", inputs(S3Uri="/a/path")),
    ("processingInputs.1.member.s3Input.s3DataType", inputs(S3DataType="Directory")),
    (
        "processingInputs.1.member.s3Input.localPath",
        inputs(LocalPath="/opt/ml/processing/" + "x" * 256),
    ),
    ("processingOutputConfig.outputs", outputs(11)),
    ("processingOutputConfig.outputs.1.member.s3Output.s3UploadMode", outputs(S3UploadMode="Now")),
    (
        "processingOutputConfig.kmsKeyId",
        {"ProcessingOutputConfig": {"Outputs": [], "KmsKeyId": "k" * 2049}},
    ),
    ("processingResources.clusterConfig.instanceCount", cluster(InstanceCount=0)),
    ("processingResources.clusterConfig.instanceCount", cluster(InstanceCount=101)),
    ("processingResources.clusterConfig.instanceType", cluster(InstanceType="ml.g5.13xlarge")),
    ("processingResources.clusterConfig.volumeSizeInGB", cluster(VolumeSizeInGB=0)),
    ("processingResources.clusterConfig.volumeSizeInGB", cluster(VolumeSizeInGB=16_385)),
    ("processingResources.clusterConfig.volumeKmsKeyId", cluster(VolumeKmsKeyId="k" * 2049)),
    ("stoppingCondition.maxRuntimeInSeconds", runtime(0)),
    ("stoppingCondition.maxRuntimeInSeconds", runtime(777_601)),
    ("tags", {"Tags": [TAG] * 51}),
    ("tags.1.member.key", {"Tags": [{"Key": "k" * 129, "Value": ""}]}),
    ("tags.1.member.value", {"Tags": [{"Key": "k", "Value": "not;allowed"}]}),
    ("roleArn", {"RoleArn": "arn:aws:iam::123:role/Processing"}),
    ("roleArn", {"RoleArn": None}),
    (
        "networkConfig.vpcConfig.subnets",
        {"NetworkConfig": {"VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["s"] * 17}}},
    ),
]

REFUSED_BY_THE_TEXT = {
    "InstanceType or InstancePreferences": cluster(InstanceType=None),
    "LocalPath '/tmp/data'": inputs(LocalPath="/tmp/data"),
    "S3InputMode Pipe": inputs(S3InputMode="Pipe"),
    "ContainerEntrypoint": app(ContainerEntrypoint=None),
}


def request_with(fields: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy({**request(), "RoleArn": ROLE, **fields})
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_request_at_its_limit_is_accepted(fields: dict[str, Any]) -> None:
    check_request(request_with(fields))


@pytest.mark.parametrize(("field", "fields"), REFUSED, ids=[field for field, _ in REFUSED])
def test_a_request_beyond_a_limit_is_refused(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=f"' at '{field}' failed to satisfy"):
        check_request(request_with(fields))


@pytest.mark.parametrize(
    ("text", "fields"), REFUSED_BY_THE_TEXT.items(), ids=REFUSED_BY_THE_TEXT.keys()
)
def test_a_request_against_the_documentations_text_is_refused(
    text: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        check_request(request_with(fields))


def test_a_client_sees_the_refusal_and_no_job_exists(bench: Workbench) -> None:
    code, message = bench.refusal(
        bench.sagemaker.create_processing_job, **request(Environment={"LONG": "x" * 257})
    )
    assert code == "ValidationException"
    assert message.startswith("1 validation error detected: ")
    assert message.endswith(
        "at 'environment.LONG.member' failed to satisfy constraint: "
        "Member must have length less than or equal to 256"
    )
    assert bench.emulator.jobs == []
