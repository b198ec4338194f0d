"""The policies allow every call that a run and its job really make, and hardly anything else."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import pytest

import reviewsum_assets
from reviewsum_assets.compute import Launch
from tests.support.pipeline import SmallPipeline
from tests.support.processing import ApiCall, ProcessingEmulator

POLICIES = Path(reviewsum_assets.__file__).parent / "compute" / "iam"
ORCHESTRATOR, JOB = "orchestrator_policy.json", "job_role_policy.json"
S3_ACTIONS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}
# Needed without a call of the clients that shows it, or only for large objects.
IMPLIED = {
    "sagemaker:AddTags",  # by CreateProcessingJob with tags
    "iam:PassRole",  # by CreateProcessingJob with a role
    "s3:AbortMultipartUpload",  # a large upload that failed
    # SageMaker itself, with the job's role: inputs, image, log, the instances' metrics. And without
    # the right to list, S3 answers 403 in place of 404 where there is no object.
    "s3:ListBucket",
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
    "cloudwatch:PutMetricData",
}


def policy(name: str) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = json.loads((POLICIES / name).read_text())["Statement"]
    return statements


def needed(call: ApiCall) -> tuple[str, str]:
    """The action that a call needs and its resource; empty where calls do not show it."""
    if call.service != "s3":
        return f"{call.service}:{call.action}", ""
    if not call.key and call.method == "POST":
        return "s3:DeleteObject", ""  # of several, which its body names
    if not call.key:
        return "s3:ListBucket", "arn:aws:s3:::BUCKET"
    return S3_ACTIONS[call.method], f"arn:aws:s3:::BUCKET/PREFIX/{call.key.partition('/')[2]}"


def is_allowed(call: ApiCall, name: str) -> bool:
    action, resource = needed(call)
    prefix = call.prefix.replace("lake/", "PREFIX/", 1)

    def allows(statement: dict[str, Any]) -> bool:
        condition = statement.get("Condition", {}).get("StringLikeIfExists", {})
        return (
            action in aslist(statement["Action"])
            and (not resource or any_fits(resource, statement["Resource"]))
            and (not prefix or any_fits(prefix, condition.get("s3:prefix", "*")))
        )

    return any(map(allows, policy(name)))


def any_fits(text: str, patterns: str | list[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in aslist(patterns))


def aslist(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_every_call_is_allowed_by_its_policy_and_no_action_is_superfluous(
    small: SmallPipeline, processing: ProcessingEmulator
) -> None:
    assert small.summarize(1, 2).success
    assert small.execute("merge").success
    stopped = small.job_spec().model_copy(update={"recompute": True, "name": "reviewsum-stopped"})
    small.pipeline.compute.start(stopped, Launch()).stop()
    for caller, name in (("client", ORCHESTRATOR), ("container", JOB)):
        calls = [call for call in processing.calls if call.caller == caller]
        assert [call for call in calls if not is_allowed(call, name)] == []
        allowed = {action for statement in policy(name) for action in aslist(statement["Action"])}
        assert allowed - {needed(call)[0] for call in calls} <= IMPLIED


@pytest.mark.parametrize(
    ("name", "call"),
    [
        *((JOB, ("s3", "PUT", key)) for key in ("review_dumps/x", "checkpoint_plans/x")),
        *((JOB, ("s3", "PUT", key)) for key in ("summarized_dataset/x", "models/x", "job_code/x")),
        # The orders of other jobs.
        *((JOB, ("s3", "PUT", key)) for key in ("processing_jobs/x/spec.json", "live_jobs/x")),
        *((JOB, ("s3", "GET", key)) for key in ("review_dumps/x", "summarized_dataset/x")),
        (JOB, ("s3", "DELETE", "checkpoint_files/x")),
        (JOB, ("sagemaker", "CreateProcessingJob", "")),
        (ORCHESTRATOR, ("sagemaker", "CreateTrainingJob", "")),
        (ORCHESTRATOR, ("sagemaker", "ListProcessingJobs", "")),
        (ORCHESTRATOR, ("logs", "PutLogEvents", "")),
    ],
)
def test_calls_that_are_not_needed_are_not_allowed(name: str, call: tuple[str, str, str]) -> None:
    service, action, key = call
    place = f"lake/{key}" if key else ""
    assert not is_allowed(ApiCall(service, action, 200, "client", action, "reviews", place), name)


@pytest.mark.parametrize("name", [ORCHESTRATOR, JOB])
def test_no_action_is_a_wildcard_and_no_other_prefix_can_be_listed(name: str) -> None:
    for prefix, expected in (("lake/models/", True), ("another/models/", False)):
        listing = ApiCall("s3", "GET", 200, "client", "GET", "reviews", prefix=prefix)
        assert is_allowed(listing, name) is expected
    for statement in policy(name):
        assert not any("*" in action for action in aslist(statement["Action"]))
        if statement["Resource"] == "*":
            assert statement["Action"] in ("ecr:GetAuthorizationToken", "cloudwatch:PutMetricData")


def test_a_job_in_a_vpc_has_the_nine_actions_that_aws_requires_on_all_resources() -> None:
    (statement,) = policy("job_role_vpc_policy.json")
    assert statement["Resource"] == "*"  # scoped ones fail the service's own validation
    assert {action.partition(":")[0] for action in statement["Action"]} == {"ec2"}
    assert len(statement["Action"]) == 9


def test_the_role_can_be_passed_to_sagemaker_only() -> None:
    (statement,) = [s for s in policy(ORCHESTRATOR) if s["Action"] == "iam:PassRole"]
    assert statement["Condition"] == {
        "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}
    }
    assert "*" not in statement["Resource"]
