"""Secrets of the environment are in nothing that a run writes, says or sends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import boto3
import dagster as dg
import pytest

from tests.support.mail import PASSWORD, mail_server
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import planned_pipeline
from tests.support.sensors import alert
from tests.support.slack import CHANNEL, TOKEN, slack_server

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-key-of-a-test",
    "AWS_SESSION_TOKEN": "session-token-of-a-test",
    "DAGSTER_POSTGRES_URL": "postgresql://dagster:word-of-a-test@127.0.0.1/runs",
    "HF_TOKEN": "hub-token-of-a-test",
    "SLACK_BOT_TOKEN": TOKEN,
    "SMTP_PASSWORD": PASSWORD,
}

pytestmark = pytest.mark.drill


def test_secrets_are_in_nothing_that_is_written_said_or_sent(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    pegasus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with slack_server() as slack, mail_server(tmp_path, "SSL") as mailbox:
        for name, value in {
            **mailbox.environment(tmp_path, "SSL", "one@example.com"),
            **SECRETS,
            "REVIEWSUM_SLACK_CHANNEL": CHANNEL,
            "REVIEWSUM_SLACK_API_URL": slack.url,
        }.items():
            monkeypatch.setenv(name, value)
        small = planned_pipeline(
            processing, instance, pegasus, tmp_path, products=2, engine="transformers"
        )
        assert small.summarize(1, 1).success
        assert small.execute("merge").success
        processing.faults.quota_exceeded()
        failed = small.summarize(1, 1, chunk_summaries={"config": {"recompute": True}})
        alert(instance, failed.dagster_run)
    told = "".join(capfd.readouterr())
    (job,) = processing.jobs
    places = {
        **{str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()},
        **objects(processing.bucket),
        "request": repr(job.request).encode(),
        "output": told.encode(),
        "slack": "".join(slack.texts).encode(),
        "mail": "".join(text for _, text in mailbox.mails).encode(),
    }
    for secret in SECRETS.values():
        assert holding(places, secret) == []
    # All that could have held one was looked at.
    assert {"slack", "mail", "output"} <= set(holding(places, "quota too small"))
    known = " ".join(holding(places, job.name))
    for place in (".db", "request", "checkpoint_manifests", "spec.json"):
        assert place in known


def objects(bucket: str) -> dict[str, bytes]:
    """Every object of a bucket."""
    client = boto3.client("s3")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def holding(places: Mapping[str, bytes], text: str) -> list[str]:
    return [place for place, content in places.items() if text.encode() in content]
