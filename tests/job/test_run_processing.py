from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest

from reviewsum_assets.checkpoints.manifest import decode_rows, read_manifests, read_reference
from reviewsum_assets.job import run_processing
from reviewsum_assets.job.engines.base import CANARY_TEXTS
from reviewsum_assets.lake_state import lake_status, verify_lake
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete
from tests.support.held_jobs import withheld
from tests.support.jobs import incomplete, result, run, spec_for, start, texts
from tests.support.models import POISON
from tests.support.waiting import wait_until


def test_a_job_lands_every_checkpoint(any_lake: Lake, pegasus: Path, tmp_path: Path) -> None:
    plan, spec = spec_for(any_lake, pegasus, texts(10))
    code, log = run(spec, tmp_path)
    assert code == 0, log
    assert incomplete(any_lake) == []
    assert result(any_lake, spec).landed == (1, 2, 3)
    assert "checkpoint_00003 landed: 2 products" in log
    reference = read_reference(any_lake, plan.recipe)
    assert reference is not None
    assert len(reference.canary_summaries) == len(CANARY_TEXTS)
    for manifest in read_manifests(any_lake, [c.number for c in plan.checkpoints]):
        assert manifest.producer.canary_summaries == reference.canary_summaries


def test_a_job_computes_valid_checkpoints_only_if_asked_and_the_same_with_any_workers(
    lake: Lake, pegasus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, spec = spec_for(lake, pegasus, texts(10), workers=1)
    complete(lake, plan, numbers=[2])
    # No variable of a container can stop a job that has a spec.
    monkeypatch.setenv("REVIEWSUM_OF_THE_IMAGE", "no setting")
    before = lake.get(places.checkpoint_manifest(2))
    assert run(spec, tmp_path)[0] == 0
    assert lake.get(places.checkpoint_manifest(2)) == before
    assert result(lake, spec).already_valid == (2,)
    others = [lake.get(places.checkpoint_csv(n)) for n in (1, 3)]
    engine = spec.engine.model_copy(update={"workers": 3})
    again = spec.model_copy(update={"engine": engine, "recompute": True})
    assert run(again, tmp_path)[0] == 0
    assert b"summary of" not in (lake.get(places.checkpoint_csv(2)) or b"")
    assert [lake.get(places.checkpoint_csv(n)) for n in (1, 3)] == others


def test_a_poison_product_costs_only_itself(
    lake: Lake, poisoned_bart: Path, tmp_path: Path
) -> None:
    products = {**texts(6), "P003": f"good sound {POISON}"}
    _, spec = spec_for(lake, poisoned_bart, products)
    code, log = run(spec, tmp_path)
    assert code == 0, log
    status = lake_status(lake)
    assert status is not None
    assert (status.summarized, status.quarantined) == (5, 1)


def test_wrong_input_and_a_failed_write_fail_their_checkpoint_only(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    plan, spec = spec_for(lake, pegasus, texts(20))
    lake.put(plan.checkpoint(2).input_key, lake.get(plan.checkpoint(1).input_key) or b"")
    lake.delete(plan.checkpoint(3).input_key)
    lake.put(plan.checkpoint(4).input_key, b"not Parquet")
    # A folder stands where the checkpoint file has to go: no write can succeed.
    lake.put(f"{places.checkpoint_csv(5)}/in the way", b"")
    assert run(spec, tmp_path)[0] == 3
    failed = result(lake, spec).failed
    assert "are not those planned" in failed[2]
    assert "are missing" in failed[3]
    assert "cannot be read" in failed[4]
    assert "checkpoint_file_5.csv" in failed[5]
    assert incomplete(lake) == [2, 3, 4, 5]


def test_a_model_that_is_gone_fails_everything_with_its_reason(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    plan, spec = spec_for(lake, pegasus, texts(4))
    version = plan.recipes[plan.recipe].model_version
    lake.delete(f"{places.model_directory(version)}/ready.json")
    code, log = run(spec, tmp_path)
    assert code == 2
    assert "materialize summarizer_model" in log


def test_a_signal_ends_a_job_with_its_own_code_and_leaves_only_whole_objects(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    _, spec = spec_for(lake, pegasus, texts(200), workers=1)
    with withheld(lake, spec.checkpoints[-1].input_key):
        process = start(spec, tmp_path)
        wait_for_manifests(lake, 3)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 75, log.decode()
    assert result(lake, spec).stopped
    pending = incomplete(lake)
    assert 0 < len(pending) < 50
    # Every manifest is that of a valid checkpoint: there is no half-written CSV or manifest.
    assert len(lake.list(places.CHECKPOINT_MANIFESTS)) == 50 - len(pending)
    assert run(spec, tmp_path)[0] == 0
    assert incomplete(lake) == []


def test_a_killed_job_takes_its_workers_along_and_the_next_one_finishes(
    lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    _, spec = spec_for(lake, pegasus, texts(200))
    with withheld(lake, spec.checkpoints[-1].input_key):
        process = start(spec, tmp_path)
        wait_for_manifests(lake, 3)
        workers = workers_of(process)
        assert workers
        process.kill()
        process.communicate(timeout=60)
        wait_until(lambda: not any(map(is_alive, workers)), "the workers to end")
    valid = {*range(1, 51)} - {*incomplete(lake)}
    assert 0 < len(valid) < 50
    done = {c: lake.get(places.checkpoint_manifest(c)) for c in valid}
    assert run(spec, tmp_path)[0] == 0
    assert incomplete(lake) == []
    assert {c: lake.get(places.checkpoint_manifest(c)) for c in done} == done


def test_killed_workers_cost_only_time(lake: Lake, pegasus: Path, tmp_path: Path) -> None:
    _, spec = spec_for(lake, pegasus, texts(200), workers=2)
    with withheld(lake, spec.checkpoints[-1].input_key):
        process = start(spec, tmp_path)
        wait_for_manifests(lake, 3)
    workers = workers_of(process)
    assert len(workers) == 2
    for worker in workers:
        worker.kill()
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log.decode()
    assert "killed by signal 9" in log.decode()
    assert incomplete(lake) == []


def legacy(tmp_path: Path, model: Path, *arguments: str) -> tuple[int, Lake]:
    """Call the file by its path, as a container does; the output directory is the lake."""
    completed = subprocess.run(
        [
            sys.executable,
            run_processing.__file__,
            *("--input_dir", str(tmp_path / "input")),
            *("--model_dir", str(model)),
            *("--output_dir", str(tmp_path / "output")),
            *arguments,
        ],
        env={**os.environ, "REVIEWSUM_MIN_LENGTH": "4", "REVIEWSUM_MAX_LENGTH": "16"},
        cwd=tmp_path,
        check=False,
    )
    return completed.returncode, Lake.open(str(tmp_path / "output"))


def write_grouped_csv(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "input" / "grouping_dataset"
    folder.mkdir(parents=True)
    rows = [f'{p},"{text}",{1000 - i}' for i, (p, text) in enumerate(texts(count).items())]
    (folder / "product_grouped.csv").write_text(
        "\n".join(["product_id,all_reviews,review_count", *rows]) + "\n"
    )


def test_the_old_convention_takes_the_top_k_loses_no_last_products_and_resumes(
    tmp_path: Path, pegasus: Path
) -> None:
    write_grouped_csv(tmp_path, 103)
    code, output = legacy(tmp_path, pegasus, "--top_k", "101")
    assert code == 0
    assert verify_lake(output) == []
    rows = decode_rows(output.get(places.MERGED_CSV) or b"")
    assert [row.product_id for row in rows] == [f"P{n:03d}" for n in range(101)]
    files = [item.key for item in output.list(places.CHECKPOINT_FILES)]
    assert files == [places.checkpoint_csv(1), places.checkpoint_csv(2)]
    before = output.get(places.checkpoint_manifest(1))
    assert legacy(tmp_path, pegasus, "--top_k", "101")[0] == 0
    assert output.get(places.checkpoint_manifest(1)) == before


def test_the_old_convention_without_its_input_says_so_and_has_the_containers_defaults() -> None:
    command = [sys.executable, run_processing.__file__, "--top_k", "1"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == run_processing.EXIT_USAGE
    assert "expected one grouped CSV under /opt/ml/processing/input" in completed.stderr


@pytest.mark.parametrize("name", ["requirements.txt", "reviewsum_assets-9.zip"])
def test_code_that_came_with_the_data_is_not_run(tmp_path: Path, name: str) -> None:
    inputs, target = tmp_path / "input", tmp_path / "pwned"
    entry = inputs / "code" / "run_processing.py"
    entry.parent.mkdir(parents=True)
    shutil.copy(run_processing.__file__, entry)
    (inputs / "code" / "requirements.txt").write_text("")
    (inputs / "code" / "reviewsum_assets.zip").write_bytes(b"")
    (inputs / "grouped").mkdir()
    if name.endswith("txt"):
        (inputs / "grouped" / name).write_text("package-that-is-nowhere==1.0\n")
    else:
        with zipfile.ZipFile(inputs / "grouped" / name, "w") as archive:
            archive.writestr(
                "reviewsum_assets/__init__.py", f"import os; os.mkdir({str(target)!r})"
            )
    started = subprocess.run(
        [sys.executable, str(entry)], capture_output=True, text=True, check=False
    )
    assert started.returncode == 1
    assert f"grouped/{name}: one of these at most is to be run" in started.stderr
    assert not target.exists()


def wait_for_manifests(lake: Lake, count: int) -> None:
    wait_until(lambda: len(lake.list(places.CHECKPOINT_MANIFESTS)) >= count, "checkpoints to land")


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The worker processes among a job's children; multiprocessing has a helper of its own."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still works: a dead one stays listed until its parent collects it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_an_exit_message_is_cut_by_bytes_into_a_folder_that_is_made(tmp_path: Path) -> None:
    message = tmp_path / "ml" / "output" / "message"
    run_processing.leave_message(message, "é" * 2_000)
    assert not message.exists()  # no container of the service has this folder's parent
    message.parents[1].mkdir()
    run_processing.leave_message(message, "x" + "é" * 2_000)
    assert len(message.read_bytes()) <= 1_000
    assert message.read_text(encoding="utf-8") == "x" + "é" * 499
