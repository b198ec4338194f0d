"""``reviewsum run`` tells of its failure itself, once, whether a daemon runs on its home or not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from reviewsum_assets.assets.dagster_home import fail_lost_runs, persistent_instance, run_tags
from reviewsum_assets.automation.alerts import alert_of_failed_command, alert_on_failure
from reviewsum_assets.cli.app import app
from reviewsum_assets.definitions import defs
from reviewsum_assets.errors import DumpError, PlanError, RunInterrupted
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.mail import HOST, PASSWORD, USER, Mailbox, mail_server


@pytest.fixture
def mailbox(tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """Settings by which command and daemon alike tell somebody."""
    with mail_server(tmp_path, "SSL") as mailbox:
        for name, value in {
            "DAGSTER_HOME": str(tmp_path / "home"),
            "REVIEWSUM_LAKE": lake.uri,
            "SSL_CERT_FILE": str(tmp_path / "mail.pem"),
            "SMTP_PASSWORD": PASSWORD,
            "REVIEWSUM_ALERT_EMAIL_TO": "one@example.com",
            "REVIEWSUM_ALERT_EMAIL_FROM": USER,
            "REVIEWSUM_SMTP_HOST": HOST,
            "REVIEWSUM_SMTP_PORT": str(mailbox.port),
        }.items():
            monkeypatch.setenv(name, value)
        yield mailbox


def run_command(*arguments: str) -> BaseException | None:
    """What ``reviewsum run`` ends with, before it is printed."""
    return CliRunner().invoke(app, ["run", *arguments]).exception


def daemon_sees_failure() -> dg.DagsterRun:
    """What the daemon does once it has seen that the one run of the home failed; that run."""
    with persistent_instance() as instance:
        (run,) = instance.get_runs()
        (failure,) = instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE
        ).records
        event = failure.event_log_entry.dagster_event
        assert event is not None
        alert_on_failure(
            dg.build_run_status_sensor_context(
                sensor_name="alert_on_failure",
                dagster_event=event,
                dagster_instance=instance,
                dagster_run=run,
            ).for_run_failure()
        )
        return run


def test_a_run_that_fails_is_told_once(
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


def test_a_failure_outside_of_any_run_is_told_too(mailbox: Mailbox, lake: Lake) -> None:
    lake.put(places.plan_document(1), b"torn")
    assert isinstance(run_command("--dump", "dump.jsonl"), PlanError)
    ((_, mail),) = mailbox.mails
    assert "Subject: reviewsum: reviewsum run failed" in mail
    assert "cannot be read" in mail


def test_who_interrupts_a_run_is_not_told(mailbox: Mailbox) -> None:
    with (
        persistent_instance() as instance,
        pytest.raises(RunInterrupted),
        alert_of_failed_command(instance, load_settings()),
    ):
        raise RunInterrupted("interrupted")
    assert mailbox.mails == []


def test_of_a_command_that_was_killed_the_daemon_tells(mailbox: Mailbox) -> None:
    with persistent_instance() as instance:
        run = instance.create_run_for_job(
            defs.resolve_job_def("merge"),
            status=dg.DagsterRunStatus.STARTED,
            tags=run_tags(sends_alert=True),
        )
        lock = Path(instance.root_directory, "run_locks", run.run_id)
        lock.parent.mkdir()
        lock.touch()
        fail_lost_runs(instance)
    daemon_sees_failure()
    assert ["Subject: reviewsum: merge failed" in mail for _, mail in mailbox.mails] == [True]
