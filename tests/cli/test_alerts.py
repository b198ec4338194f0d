"""``reviewsum run`` sends the alert of its failure, once, with or without a daemon."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from reviewsum_assets.assets.dagster_home import fail_lost_runs, persistent_instance, run_tags
from reviewsum_assets.automation.alerts import alert_of_failed_command
from reviewsum_assets.cli.app import app
from reviewsum_assets.definitions import defs
from reviewsum_assets.errors import DumpError, PlanError, RunInterrupted
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.mail import Mailbox, mail_server
from tests.support.sensors import alert


@pytest.fixture
def mailbox(tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """Settings for alerts, for command and daemon."""
    with mail_server(tmp_path, "SSL") as mailbox:
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("REVIEWSUM_LAKE", lake.uri)
        for name, value in mailbox.environment(tmp_path, "SSL", "one@example.com").items():
            monkeypatch.setenv(name, value)
        yield mailbox


def run_command(*arguments: str) -> BaseException | None:
    """Run ``reviewsum run`` and return its exception."""
    return CliRunner().invoke(app, ["run", *arguments]).exception


def daemon_sees_failure() -> dg.DagsterRun:
    """Send the daemon's alert of the only run of the home, and return the run."""
    with persistent_instance() as instance:
        (run,) = instance.get_runs()
        alert(instance, run)
        return run


def test_a_run_that_fails_causes_one_alert(
    mailbox: Mailbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "dump.jsonl"
    dump.write_text("no reviews at all\n")
    assert isinstance(run_command("--dump", str(dump)), DumpError)
    ((receivers, mail),) = mailbox.mails
    assert receivers == ["one@example.com"]
    assert "Subject: reviewsum: grouped_reviews failed: " in mail
    assert f"Host: {socket.gethostname()}" in mail
    capfd.readouterr()
    run = daemon_sees_failure()
    assert f"Run: {run.run_id} of refresh" in mail
    assert run.run_id in capfd.readouterr().err, "the sensor's log has it all the same"
    assert len(mailbox.mails) == 1


def test_a_failure_outside_of_any_run_causes_an_alert(mailbox: Mailbox, lake: Lake) -> None:
    lake.put(places.plan_document(1), b"torn")
    assert isinstance(run_command("--dump", "dump.jsonl"), PlanError)
    ((_, mail),) = mailbox.mails
    assert "Subject: reviewsum: reviewsum run failed" in mail
    assert "cannot be read" in mail


def test_an_interruption_causes_no_alert(mailbox: Mailbox) -> None:
    with (
        persistent_instance() as instance,
        pytest.raises(RunInterrupted),
        alert_of_failed_command(instance, load_settings()),
    ):
        raise RunInterrupted("interrupted")
    assert mailbox.mails == []


def test_the_daemon_sends_the_alert_of_a_killed_command(mailbox: Mailbox) -> None:
    with persistent_instance() as instance:
        run = instance.create_run_for_job(
            defs.resolve_job_def("merge"),
            status=dg.DagsterRunStatus.STARTED,
            tags=run_tags(load_settings()),
        )
        lock = Path(instance.root_directory, "run_locks", run.run_id)
        lock.parent.mkdir()
        lock.touch()
        fail_lost_runs(instance)
    daemon_sees_failure()
    assert ["Subject: reviewsum: merge failed" in mail for _, mail in mailbox.mails] == [True]
