from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import ctranslate2
import pytest
from botocore.exceptions import EndpointConnectionError
from typer.testing import CliRunner

from reviewsum_assets.cli.app import app
from reviewsum_assets.compute.doctor import Finding, diagnose
from reviewsum_assets.errors import LakeError
from reviewsum_assets.settings import load_settings
from tests.support.checkpoints import plan_products
from tests.support.gpus import A10G, show_gpus
from tests.support.pipeline import texts, write_dump
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import ROLE, lake_on

GOOD_TRUST = '{"Statement": [{"Principal": {"Service": "sagemaker.amazonaws.com"}}]}'


def findings(lake: str | Path, **settings: Any) -> dict[str, Finding]:
    """The findings of a diagnosis, by subject."""
    chosen = load_settings(lake=str(lake), **settings)
    return {found.subject: found for found in diagnose(chosen)}


def states(found: dict[str, Finding]) -> dict[str, str]:
    return {subject: finding.state for subject, finding in found.items()}


def aws(emulator: ProcessingEmulator, **settings: Any) -> dict[str, Finding]:
    return findings(lake_on(emulator).uri, compute="sagemaker", role_arn=ROLE, **settings)


def make_role(trust: str = GOOD_TRUST) -> None:
    """Make the job's role."""
    name = ROLE.rpartition("/")[2]
    boto3.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)


def test_this_machine_works_and_the_diagnosis_leaves_nothing(tmp_path: Path, pegasus: Path) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(2))
    found = findings(tmp_path / "lake", dumps=(str(dump),), model=str(pegasus))
    assert set(states(found).values()) == {"ok"}
    assert {"lake", "one writer", "reviews", "model", "device", "memory", "engine"} <= set(found)
    assert found["engine"].text == "ctranslate2, to be converted by the first run"
    assert not (tmp_path / "lake").exists()


def test_a_sample_is_a_warning_and_a_missing_model_or_lake_a_problem(tmp_path: Path) -> None:
    found = findings(tmp_path / "lake")
    assert states(found)["reviews"] == states(found)["model"] == "warning"
    assert "sample reviews" in found["reviews"].text
    (tmp_path / "empty").mkdir()
    model = findings(tmp_path / "lake", model=str(tmp_path / "empty"))["model"]
    assert model.state == "problem"
    assert str(tmp_path / "empty") in model.text
    (tmp_path / "file").write_text("")
    assert states(findings(tmp_path / "file")) == {"lake": "problem"}


def test_on_aws_everything_is_there(processing: ProcessingEmulator) -> None:
    make_role()
    processing.set_quota("ml.g5.12xlarge", 1)
    found = aws(processing)
    assert {name for name, finding in found.items() if finding.state == "problem"} == set()
    for subject in ("credentials", "lake", "one writer", "SageMaker", "role", "quota", "packages"):
        assert found[subject].state == "ok", found[subject]
    assert "4 A10G of 24 GB, 7.09 USD per hour" in found["instance"].text
    assert found["image"].state == "warning"  # the last of this name: its patches have ended
    assert "ended security patches" in found["image"].text
    assert not lake_on(processing).list(".staging")


@pytest.mark.parametrize(
    ("prepare", "subject", "text"),
    [
        (
            lambda aws: aws.set_quota("ml.g5.12xlarge", 0),
            "quota",
            "request 2 in the Service",
        ),
        (lambda aws: None, "role", "there is no role"),
        (lambda aws: make_role('{"Statement": []}'), "role", "SageMaker may not assume"),
        (lambda aws: aws.faults.failed_puts(""), "lake", "Access Denied"),
    ],
    ids=["quota", "no role", "role of another service", "bucket"],
)
def test_a_problem_on_aws_is_named_with_its_remedy(
    processing: ProcessingEmulator,
    prepare: Callable[[ProcessingEmulator], None],
    subject: str,
    text: str,
) -> None:
    prepare(processing)
    found = aws(processing, instance_count=2)
    assert found[subject].state == "problem"
    assert text in found[subject].text + found[subject].remedy
    assert ("model" in found) == (subject != "lake")  # which it depends on


def test_missing_credentials_are_the_only_problem(
    processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/no/file")
    found = aws(processing)
    assert states(found) == {"credentials": "problem"}
    assert "AWS_PROFILE" in found["credentials"].remedy


def test_a_store_that_ignores_conditions_is_a_problem_and_no_plan_is_made_on_it(
    processing: ProcessingEmulator,
) -> None:
    processing.faults.ignored_conditions()
    found = aws(processing)["one writer"]
    assert found.state == "problem"
    assert "ignores If-None-Match" in found.text
    lake = lake_on(processing)
    with pytest.raises(LakeError, match="ignores If-None-Match"):
        plan_products(lake, {"P1": "good sound"})
    assert lake.list("checkpoint_plans") == lake.list(".staging") == []


def test_a_gpu_without_cublas_is_a_warning_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_gpus(tmp_path / "bin", monkeypatch, A10G)
    assert findings(tmp_path / "lake")["device"].state == "warning"  # no library can use it
    assert findings(tmp_path / "lake", device="cuda")["device"].state == "problem"
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    found = findings(tmp_path / "lake")
    assert found["device"].text == "cuda (NVIDIA A10G, 22 GiB), driver 580.95.05"
    assert found["cuBLAS"].state == "warning"
    assert "pip install '.[gpu]'" in found["cuBLAS"].remedy


def test_the_command_prints_a_line_per_finding_and_ends_with_one_on_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["doctor", "--lake", str(tmp_path / "lake")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0
    assert "ok  one writer: of two writers" in done.output
    assert "to fix: name a real model" in done.output
    done = CliRunner().invoke(app, [*call, "--model", "/none", "--json"])
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    assert printed["ok"] is False
    assert {f["subject"] for f in printed["findings"] if f["state"] == "problem"} == {"model"}
    monkeypatch.setenv("REVIEWSUM_TOP_K", "many")
    done = CliRunner().invoke(app, [*call, "--json"])
    assert done.exit_code == 1
    (only,) = json.loads(done.stdout)["findings"]
    assert (only["subject"], only["state"]) == ("settings", "problem")


def test_a_store_that_knows_no_identities_is_examined_all_the_same(
    processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sts(*_: Any, **__: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="http://store")

    monkeypatch.setattr(boto3.Session, "client", no_sts)
    found = findings(lake_on(processing).uri)
    assert found["credentials"].state == "warning"
    assert found["one writer"].state == "ok"


def test_an_error_in_one_check_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_disk(_: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr(shutil, "disk_usage", no_disk)
    found = findings(tmp_path / "lake")
    assert (found["disk"].state, found["disk"].text) == ("problem", "no such device")
    assert found["engine"].state == "ok"
