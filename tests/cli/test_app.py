from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from reviewsum_assets.checkpoints.manifest import COLUMNS, Manifest, decode_rows
from reviewsum_assets.cli.app import app, main
from reviewsum_assets.compute.local import LocalCompute
from reviewsum_assets.lake_state import lake_status
from reviewsum_assets.reviews.grouped import RECORD
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products, products
from tests.support.dumps import FORMATS, Review, reviews_of, write
from tests.support.held_jobs import hold_job
from tests.support.ready_models import put_ready_model
from tests.support.waiting import wait_until

FAST = {
    "REVIEWSUM_MAX_LENGTH": "16",
    "REVIEWSUM_MIN_LENGTH": "4",
    "REVIEWSUM_WORKERS": "1",
    "REVIEWSUM_DEVICE": "cpu",
}


@dataclass
class Command:
    """The command in a folder of its own."""

    folder: Path
    model: Path

    @property
    def lake(self) -> Lake:
        return Lake.open(str(self.folder / "lake"))

    def start(self, *arguments: str, lake: str = "") -> subprocess.Popen[str]:
        script = Path(sys.executable).with_name("reviewsum")
        return subprocess.Popen(
            [str(script), *arguments],
            cwd=self.folder,
            env={**os.environ, **FAST, "REVIEWSUM_LAKE": lake or self.lake.uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, lake: str = "") -> tuple[int, str, str]:
        """Exit code, output and errors of a call in this process."""
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, {**FAST, "REVIEWSUM_LAKE": lake or self.lake.uri}),
            patch.object(sys, "argv", ["reviewsum", *arguments]),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return int(ended.value.code or 0), out.getvalue(), err.getvalue()

    def run_arguments(self, dump: str, *more: str) -> list[str]:
        return ["run", "--dump", dump, "--model", str(self.model), *more]

    def run(self, dump: str, *more: str) -> dict[str, Any]:
        code, out, err = self(*self.run_arguments(dump, "--json", *more))
        assert code == 0, err
        result: dict[str, Any] = json.loads(out)
        return result

    def merged(self) -> bytes:
        return self.lake.get(places.MERGED_CSV) or b""


@pytest.fixture
def command(tmp_path: Path, pegasus: Path) -> Command:
    """``reviewsum`` on a lake that holds a small model, made ready, and nothing else."""
    command = Command(tmp_path, pegasus)
    put_ready_model(command.lake, pegasus)
    return command


@dataclass
class Finished:
    """A lake on which everything is done, and the command that did it."""

    command: Command
    dump: str
    result: dict[str, Any]

    def copy(self, folder: Path) -> Command:
        """The same lake and Dagster home elsewhere."""
        shutil.copytree(self.command.folder, folder, dirs_exist_ok=True)
        return Command(folder, self.command.model)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pegasus: Path) -> Finished:
    """Three products in two checkpoints, and lines that cannot be read; merged."""
    command = Command(tmp_path_factory.mktemp("finished"), pegasus)
    # A module of the working directory, which must not reach the job.
    (command.folder / "tokenize.py").write_text("raise SystemExit('not this one')")
    path = Path(dump(command.folder, 3))
    path.write_bytes(path.read_bytes() + b"{broken\n" * 3)
    return Finished(command, str(path), command.run(str(path), "--checkpoint-size", "2"))


def dump(folder: Path, products: int, extra: list[Review] | None = None, name: str = "2018") -> str:
    reviews = [r for n in range(products) for r in reviews_of(f"B{n:03d}")]
    return write(folder / f"dump-{name}", FORMATS[name](reviews + (extra or [])))


def test_run_goes_from_a_dump_to_the_merged_table(finished: Finished) -> None:
    result, command = finished.result, finished.command
    assert (result["products"], result["checkpoints"], result["checkpoints_computed"]) == (3, 2, 2)
    assert result["rows_quarantined"] == 3
    assert result["merged_csv"] == command.lake.uri_of(places.MERGED_CSV)
    lines = command.merged().decode().splitlines()
    assert (lines[0], len(lines)) == (",".join(COLUMNS), 4)
    assert command("verify")[:2] == (0, "no problem found\n")
    status = json.loads(command("status", "--json")[1])
    assert [c["state"] for c in status["checkpoints"]] == ["valid", "valid"]
    assert (status["products_summarized"], status["products_pending"]) == (3, 0)


def test_running_again_with_or_without_dump_and_model_changes_nothing(
    finished: Finished, tmp_path: Path
) -> None:
    command = finished.copy(tmp_path)
    before = command.merged()
    same = ("--checkpoint-size", "2")
    assert command.run(finished.dump, *same)["did_nothing"] is True
    code, out, err = command("run", *same)
    assert code == 0, err
    assert "Nothing to do" in out
    assert "3 rows could not be read" in out
    assert command.merged() == before


def test_a_second_dump_computes_only_what_changed(finished: Finished, tmp_path: Path) -> None:
    command = finished.copy(tmp_path)
    extra = [Review("B000", "new", "A new review that says something."), *reviews_of("X1")]
    result = command.run(dump(tmp_path, 3, extra), "--checkpoint-size", "5")
    assert (result["checkpoints_computed"], result["products"]) == (1, 4)
    assert len(decode_rows(command.merged())) == 4


def test_damaged_checkpoints_are_named_and_computed_again_by_the_next_run(
    finished: Finished, tmp_path: Path
) -> None:
    command = finished.copy(tmp_path)
    before = command.merged()
    command.lake.put(places.checkpoint_csv(1), b"tampered with")
    command.lake.put(places.MERGED_CSV, b"tampered with too")
    command.lake.delete(places.checkpoint_manifest(2))
    code, out, _ = command("status", "--json")
    assert code == 0
    assert [c["state"] for c in json.loads(out)["checkpoints"]] == ["invalid", "missing"]
    code, out, _ = command("verify", "--json")
    assert code == 1
    problems = " ".join(json.loads(out)["problems"])
    assert "checkpoint_00001 (invalid" in problems
    assert "checkpoint_00002 (missing" in problems
    assert command.run(finished.dump, "--checkpoint-size", "2")["checkpoints_computed"] == 2
    assert command.merged() == before
    assert command("verify")[0] == 0


def test_estimate_shows_what_the_pending_checkpoints_will_take(
    finished: Finished, tmp_path: Path
) -> None:
    command = finished.copy(tmp_path)
    command.lake.delete(places.checkpoint_manifest(2))
    code, out, _ = command("estimate", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["checkpoints"], found["products"], found["chunks"]) == (1, 1, 1)
    assert found["hours"]["low"] < found["hours"]["expected"] < found["hours"]["high"]
    assert found["basis"].startswith("1 checkpoint done on this machine")
    assert "wall-clock" in command("estimate")[1]


def test_status_and_estimate_without_a_plan_or_pending_checkpoints(
    command: Command, finished: Finished
) -> None:
    assert "holds no plan yet" in " ".join(command("status")[1].split())
    assert json.loads(command("status", "--json")[1])["plan"] is None
    assert "there is no plan yet" in command("estimate")[1]
    assert "nothing is pending" in finished.command("estimate")[1]
    assert json.loads(finished.command("estimate", "--json")[1])["checkpoints"] == 0


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, pegasus: Path) -> tuple[str, bytes]:
    """A dump of 20 products, and the merged table of a run that nothing happened to."""
    other = Command(tmp_path_factory.mktemp("uninterrupted"), pegasus)
    path = dump(other.folder, 20)
    other.run(path, "--checkpoint-size", "1")
    return path, other.merged()


@pytest.mark.parametrize("victims", ["job", "run", "both"])
def test_after_a_kill_the_next_run_finishes_with_the_same_bytes(
    command: Command, uninterrupted: tuple[str, bytes], victims: str
) -> None:
    path, expected = uninterrupted
    process = command.start(*command.run_arguments(path, "--checkpoint-size", "1"))
    job = hold_job(command.lake, 2)
    if victims in ("job", "both"):
        job.kill()
    if victims in ("run", "both"):
        process.kill()
    if victims == "run":
        job.go_on()
    process.communicate(timeout=120)
    done = manifests(command.lake)
    command.run(path, "--checkpoint-size", "1")
    assert command.merged() == expected
    assert {key: manifests(command.lake)[key] for key in done} == done
    assert command("verify")[0] == 0


def test_ctrl_c_stops_the_job_too_and_the_next_run_finishes(
    command: Command, tmp_path: Path
) -> None:
    path = dump(tmp_path, 20)
    process = command.start(*command.run_arguments(path, "--checkpoint-size", "1"))
    with hold_job(command.lake, 2).going_on_once_told_to_end():
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run it again" in err
    assert "Traceback" not in err
    wait_until(lambda: not LocalCompute(command.lake).live_jobs(), "the job to end")
    assert 0 < len(manifests(command.lake)) < 20
    assert command.run(path, "--checkpoint-size", "1")["products"] == 20


def test_two_runs_at_once_share_the_work(command: Command, tmp_path: Path) -> None:
    path = dump(tmp_path, 20)
    arguments = command.run_arguments(path, "--checkpoint-size", "1")
    processes = [command.start(*arguments) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    status = lake_status(command.lake)
    assert status is not None
    assert len(status.checkpoints) == 20
    written = [Manifest.model_validate_json(c or b"") for c in manifests(command.lake).values()]
    assert len({manifest.producer.job_name for manifest in written}) == 1
    assert command("verify")[0] == 0


def test_a_demo_run_needs_nothing(tmp_path: Path, pegasus: Path) -> None:
    command = Command(tmp_path, pegasus)
    code, out, err = command("run", "--top-k", "3", "--json")
    assert code == 0, err
    assert "using the sample reviews" in err
    result = json.loads(out)
    assert (result["products"], result["demo_model"]) == (3, True)


def test_a_dry_run_makes_neither_a_lake_nor_a_dagster_home(tmp_path: Path, pegasus: Path) -> None:
    command = Command(tmp_path / "work", pegasus)
    command.folder.mkdir()
    code, out, err = command("run", "--dry-run", "--top-k", "3", "--json", lake="not there")
    assert code == 0, err
    assert "not there is empty: using the sample reviews" in " ".join(err.split())
    assert json.loads(out)["products"] == 3
    assert list(command.folder.iterdir()) == []


@pytest.mark.parametrize("asking", ["status", "estimate"])
def test_status_and_estimate_report_changed_input_since_the_plan(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asking: str
) -> None:
    command = finished.copy(tmp_path)
    assert "other input" not in command(asking)[2]
    monkeypatch.setenv("REVIEWSUM_TOP_K", "2")
    before = files(command.folder)
    assert command("run", "--dry-run")[0] == 0
    code, _, err = command(asking)
    assert code == 0, err
    said = "other input than that of this environment: top_k 30700 -> 2. `reviewsum run`"
    assert said in " ".join(err.split())
    assert files(command.folder) == before


def test_status_shows_the_products_that_the_last_plan_lost(lake: Lake) -> None:
    plan_products(lake, products(4))
    plan_products(lake, products(3), version="grouped-2")
    opened = ["status", "--lake", lake.uri]
    shown = CliRunner().invoke(app, opened, catch_exceptions=False)
    assert "gone since the plan before: 1 products in no dump any more" in shown.stdout
    shown = CliRunner().invoke(app, [*opened, "--json"], catch_exceptions=False)
    assert json.loads(shown.stdout)["products_gone"] == {
        "products_in_no_dump_any_more": 1,
        "products_with_too_few_reviews": 0,
        "products_below_top_k": 0,
    }


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file of a lake and of a Dagster home, with its time and its bytes."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_sample_never_takes_the_place_of_a_lake_whose_record_is_lost(
    finished: Finished, tmp_path: Path
) -> None:
    command = finished.copy(tmp_path)
    before = command.merged(), manifests(command.lake)
    command.lake.delete(RECORD)
    code, _, err = command("run")
    assert code == 1
    assert "name files in the setting dumps (--dump)" in " ".join(err.split())
    assert (command.merged(), manifests(command.lake)) == before
    assert command.run(finished.dump, "--checkpoint-size", "2")["checkpoints_computed"] == 0
    assert (command.merged(), manifests(command.lake)) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--top-k", "0"], 2, "top_k"),
        (["run", "--checkpoint-size", "many"], 2, "checkpoint-size"),
        (["run", "--dump", "nowhere.json"], 1, "nowhere.json does not exist"),
        (["run", "--model", "./nowhere"], 1, "neither a directory here"),
        (["run", "--lake", "ftp://x/y"], 1, "neither a directory nor s3"),
        (["run", "--compute", "sagemaker"], 2, "set lake to s3://bucket/prefix"),
        (["status", "--lake", "typo"], 1, "typo does not exist"),
        (["estimate", "--lake", "typo"], 1, "typo does not exist"),
        (["prune", "--lake", "typo"], 1, "typo does not exist"),
        (["verify"], 1, "holds no plan yet"),
        (["no-such-command"], 2, "No such command"),
    ],
)
def test_errors_are_printed_without_a_traceback(
    command: Command, arguments: list[str], code: int, message: str
) -> None:
    found, _, err = command(*arguments)
    assert not (command.folder / "typo").exists()
    assert found == code, err
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def manifests(lake: Lake) -> dict[str, bytes | None]:
    return {i.key: lake.get(i.key) for i in lake.list(places.CHECKPOINT_MANIFESTS)}


def test_a_damaged_document_causes_one_sentence_that_cannot_control_the_terminal(
    command: Command,
) -> None:
    plan = plan_products(command.lake, products(2)).plan
    for key in [places.plan_document(plan.sequence)]:
        command.lake.put(key, b'{"\\u001b]0;title\\u0007\\n": 1, "sequence": 1}')
    for name in ("status", "verify"):
        code, out, err = command(name)
        assert (code, out) == (1, "")
        assert "plan_000001.json cannot be read" in err
        assert "Traceback" not in err and "\x1b]" not in err
        assert len(err.splitlines()) == 1
