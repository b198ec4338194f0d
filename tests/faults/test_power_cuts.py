"""The power is cut at every write of a run that commits something, and the next run goes on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.checkpoints.manifest import decode_rows
from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.checkpoints.validity import check_checkpoint
from reviewsum_assets.report.writer import damaged_report
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.crashes import CrashDrill, WarmCommand, WarmProcess
from tests.support.worlds import SETTINGS, write_dump

# More than any run meets, so that a drill that gets no further ends.
MOST_CUTS = 200
# What must be among the boundaries that were met, whatever else is.
KNOWN = {
    f"{when} write {kind}"
    for when in ("before", "after")
    for kind in (
        "grouped_reviews/tables/ID/part_N.parquet",
        "grouped_reviews/current.json",
        "quarantine/ID.jsonl",
        "models/ID/FILE",
        "models/ID/ready.json",
        "models/ID.ctranslateN/converted.json",
        "grouped_reviews/plans/ID/checkpoint_N.parquet",
        "checkpoint_plans/tables/ID.parquet",
        "checkpoint_plans/plan_N.json",
        "processing_jobs/JOB/pipes_context.json",
        "checkpoint_files/checkpoint_file_N.csv",
        "checkpoint_manifests/checkpoint_file_N.json",
        "summarized_dataset/merged_summaries.csv",
        "summarized_dataset/merged_summaries.parquet",
        "summarized_dataset/merged_summaries.json",
        "summarized_dataset/product_facts.parquet",
        "summarized_dataset/product_facts.json",
        "summarized_dataset/summary_evidence.parquet",
        "summarized_dataset/summary_evidence.json",
        "summarized_dataset/report.html",
    )
} | {
    "before write processing_jobs/JOB",
    "before delete grouped_reviews/tables/ID/part_N.parquet",
    "after delete grouped_reviews/tables/ID/part_N.parquet",
}

pytestmark = pytest.mark.drill


@pytest.fixture
def drill(tmp_path: Path) -> CrashDrill:
    return CrashDrill.begin(tmp_path / "drill")


@pytest.fixture
def command(warm: WarmProcess, tmp_path: Path, lake: Lake, drill: CrashDrill) -> WarmCommand:
    environment = {**SETTINGS, **drill.environment, "REVIEWSUM_LAKE": lake.uri}
    return WarmCommand(warm, tmp_path, environment)


def test_the_power_is_cut_at_every_commit_and_the_next_run_goes_on(
    command: WarmCommand, drill: CrashDrill, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = tmp_path / "dump.json"
    call = ("run", "--dump", str(dump), "--model", str(pegasus))
    merged = []
    done: dict[str, bytes] = {}
    # The second dump replaces the first: what it makes superfluous is removed.
    for products in (4, 5):
        write_dump(dump, products)
        run_until_the_power_stays(command, drill, lake, call, done)
        assert command("verify").out == "no problem found\n"
        merged.append(lake.get(places.MERGED_CSV))
    print(*drill.cuts, sep="\n")  # noqa: T201 - `pytest -s` shows where the power was cut
    assert set(drill.cuts) >= KNOWN
    # What a run without a cut gives, from the second dump at once and from both in turn.
    drill.spare()
    again = ("--lake", str(tmp_path / "again"))
    for products, found in zip((4, 5), merged, strict=True):
        write_dump(dump, products)
        assert command(*call, *again).code == 0
        assert Lake.open(str(tmp_path / "again")).get(places.MERGED_CSV) == found


def run_until_the_power_stays(
    command: WarmCommand,
    drill: CrashDrill,
    lake: Lake,
    call: tuple[str, ...],
    done: dict[str, bytes],
) -> None:
    """Run again after each cut; what was complete once stays as it is."""
    for _ in range(MOST_CUTS):
        drill.forget_processes()
        before = len(drill.cuts)
        ended = command(*call)
        every_object_is_whole(lake)
        now = valid_manifests(lake)
        assert {key: now.get(key) for key in done} == done
        done.update(now)
        if ended.code != -9:
            assert ended.code == 0, ended.err
            return
        assert len(drill.cuts) > before
    pytest.fail(f"still cut after {MOST_CUTS} runs: {drill.cuts[-5:]}")


def valid_manifests(lake: Lake) -> dict[str, bytes]:
    """The manifests of the checkpoints that a run would not compute again."""
    plan = current_plan(lake)
    planned = () if plan is None else plan.checkpoints
    keys = [
        places.checkpoint_manifest(c.number) for c in planned if check_checkpoint(lake, c).is_valid
    ]
    return {key: lake.get(key) or b"" for key in keys}


def every_object_is_whole(lake: Lake) -> None:
    """What a reader could come upon; what was being staged has no name yet."""
    assert lake.directory is not None
    for path in lake.directory.glob("[!.]*/**/[!.]*.*"):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".json":
            assert json.loads(content)
        elif path.suffix == ".jsonl":
            assert [json.loads(line) for line in content.splitlines()]
        elif path.suffix == ".parquet":
            pl.read_parquet(io.BytesIO(content))
        elif path.suffix == ".html":
            assert damaged_report(lake) == []
        elif path.suffix == ".csv":
            assert content.endswith(b"\n") and decode_rows(content)
