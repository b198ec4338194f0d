from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from reviewsum_assets.automation.alerts import failure_text
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.storage import places
from tests.support.checkpoints import complete, plan_products, products
from tests.support.mail import mail_server
from tests.support.pipeline import SmallPipeline
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import planned_pipeline
from tests.support.sensors import alert, put_run
from tests.support.slack import CHANNEL, TOKEN, SlackServer, slack_server

RECEIVERS = ["one@example.com", "two@example.com"]


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    """Alerts go to a channel."""
    with slack_server() as slack:
        monkeypatch.setenv("REVIEWSUM_SLACK_CHANNEL", CHANNEL)
        monkeypatch.setenv("REVIEWSUM_SLACK_API_URL", slack.url)
        monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
        yield slack


def failed_merge(small: SmallPipeline) -> Any:
    """A run that fails: one of three checkpoints is missing."""
    plan = plan_products(small.pipeline.lake, products(6), checkpoint_size=2).plan
    complete(small.pipeline.lake, plan, [1, 3])
    run = small.execute("merge", {"reviewsum/purpose": "schedule"})
    assert not run.success
    return run


def test_an_alert_says_what_failed_why_and_where(small: SmallPipeline) -> None:
    run = failed_merge(small)
    text = failure_text(small.instance, run.dagster_run, "https://dagster.example.com/")
    assert text.splitlines() == [
        "merged_summaries failed: 1 of 3 checkpoints cannot be merged: checkpoint_00002 (missing: "
        "no manifest). To compute and merge them: launch the ...",
        "Why: 1 of 3 checkpoints cannot be merged: checkpoint_00002 (missing: no manifest). "
        "To compute and merge them: launch the job refresh (`reviewsum run`). To merge without "
        "them: set allow_incomplete.",
        "Launched for: schedule",
        f"Run: https://dagster.example.com/runs/{run.run_id} of merge",
    ]


def test_an_alert_of_a_job_says_what_landed_and_what_to_do(
    processing: ProcessingEmulator, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    small = planned_pipeline(processing, instance, pegasus, tmp_path)
    complete(small.pipeline.lake, require_plan(small.pipeline.lake), [1])
    processing.faults.quota_exceeded()
    run = small.summarize(1, 2)
    first, *others = failure_text(instance, run.dagster_run, "").splitlines()
    assert first == "chunk_summaries failed: quota too small, 1 partitions landed, 1 are missing"
    assert any(re.match("What to do: .*Service Quotas console", line) for line in others)
    assert others[-1] == f"Run: {run.run_id} of summarize"


def test_runs_that_fail_for_the_same_reason_are_one_alert(
    small: SmallPipeline, slack: SlackServer
) -> None:
    first = failed_merge(small)
    for run in (first, small.execute("merge"), small.execute("merge")):
        alert(small.instance, run.dagster_run)
    small.pipeline.lake.delete(places.checkpoint_manifest(1))
    alert(small.instance, small.execute("merge").dagster_run)
    assert [text.split(" failed: ")[0] for text in slack.texts] == ["merged_summaries"] * 2
    assert slack.texts[0].startswith("merged_summaries failed: 1 of 3 checkpoints cannot be merged")
    assert "2 of 3 checkpoints cannot be merged" in slack.texts[1]


def test_a_name_in_an_alert_can_neither_notify_a_channel_nor_disguise_a_link(
    small: SmallPipeline, slack: SlackServer
) -> None:
    run = small.instance.get_run_by_id(put_run(small, "ingest", dg.DagsterRunStatus.STARTED))
    assert run is not None
    small.instance.report_run_failed(run, "dump <!channel> <http://x|y>&.csv is empty")
    alert(small.instance, run)
    (text,) = slack.texts
    assert "Why: dump &lt;!channel&gt; &lt;http://x|y&gt;&amp;.csv is empty" in text


@pytest.mark.parametrize("security", ["SSL", "STARTTLS"])
def test_an_alert_is_sent_by_email(
    small: SmallPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    with mail_server(tmp_path, security) as mailbox:
        for name, value in mailbox.environment(tmp_path, security, *RECEIVERS).items():
            monkeypatch.setenv(name, value)
        run = failed_merge(small)
        alert(small.instance, run.dagster_run)
    ((receivers, mail),) = mailbox.mails
    assert receivers == RECEIVERS
    assert "Subject: reviewsum: merged_summaries failed: 1 of 3 checkpoints" in mail
    assert run.run_id in mail


def test_an_alert_that_cannot_be_delivered_is_logged_and_fails_nothing(
    small: SmallPipeline,
    slack: SlackServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REVIEWSUM_SLACK_CHANNEL", "#nowhere")
    run = failed_merge(small)
    capfd.readouterr()
    alert(small.instance, run.dagster_run)
    logged = capfd.readouterr().err
    assert "\nWhy: 1 of 3 checkpoints cannot be merged" in logged
    assert "the alert could not be sent to #nowhere" in logged
    assert "channel_not_found" in logged
    assert slack.texts == []
