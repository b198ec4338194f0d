"""The policies allow every call that a run and its job really make."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

import reviewsum_assets
from reviewsum_assets.compute import Launch
from tests.support.processing import ApiCall, ProcessingEmulator
from tests.support.sagemaker import planned_pipeline

POLICIES = Path(reviewsum_assets.__file__).parent / "compute" / "iam"
S3_ACTIONS = {
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}


def policy(name: str) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = json.loads((POLICIES / name).read_text())["Statement"]
    return statements


def needed(call: ApiCall) -> tuple[str, str]:
    """The action a call needs, and the end of the resource it needs it on."""
    if call.service == "s3":
        if not call.key:
            return "s3:ListBucket", "arn:aws:s3:::BUCKET"
        return S3_ACTIONS[call.method], f"arn:aws:s3:::BUCKET/PREFIX/{call.key.partition('/')[2]}"
    return f"{call.service}:{call.action}", ""


def is_allowed(call: ApiCall, statements: list[dict[str, Any]]) -> bool:
    action, resource = needed(call)
    for statement in statements:
        actions, resources = aslist(statement["Action"]), aslist(statement["Resource"])
        if action in actions and (
            not resource or any(fnmatch.fnmatchcase(resource, pattern) for pattern in resources)
        ):
            return True
    return False


def aslist(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def refused(calls: list[ApiCall], caller: str, name: str) -> Iterator[ApiCall]:
    statements = policy(name)
    return (c for c in calls if c.caller == caller and not is_allowed(c, statements))


def test_every_call_is_allowed_by_its_policy(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    assert small.summarize(1, 2).success
    assert small.execute("merge").success
    small.pipeline.compute.start(
        small.job_spec().model_copy(update={"recompute": True, "name": "reviewsum-stopped"}),
        Launch(),
    ).stop()
    calls = processing.calls
    assert {"client", "container"} == {call.caller for call in calls}
    assert list(refused(calls, "client", "orchestrator_policy.json")) == []
    assert list(refused(calls, "container", "job_role_policy.json")) == []


def test_the_job_cannot_touch_dumps_plans_or_the_merged_table() -> None:
    for key in ("review_dumps/x", "checkpoint_plans/x", "summarized_dataset/x", "models/x"):
        call = ApiCall("s3", "PUT", 200, "container", "PUT", "reviews", f"lake/{key}")
        assert not is_allowed(call, policy("job_role_policy.json"))


def test_the_role_can_be_passed_to_sagemaker_only() -> None:
    (statement,) = [s for s in policy("orchestrator_policy.json") if s["Action"] == "iam:PassRole"]
    assert statement["Condition"] == {
        "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}
    }
    assert "*" not in statement["Resource"]
