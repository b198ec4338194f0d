from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets.assets.pipeline import StageProgress
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.cli.local_run import dry_run, first_request, materialize_pending
from reviewsum_assets.cli.output import RunResult
from reviewsum_assets.compute.estimate import estimate
from reviewsum_assets.errors import PlanError
from reviewsum_assets.lake_state import LakeStatus, lake_status
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete
from tests.support.pipeline import SmallPipeline, failure, texts, write_dump
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import SETTINGS, lake_on


def test_a_table_for_spreadsheets_that_is_asked_for_later_is_written_once(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(2))
    small = SmallPipeline.build(instance, lake, pegasus, dump, engine="transformers")
    assert small.execute("ingest").success
    complete(lake, require_plan(lake))

    def run() -> RunResult:
        return materialize_pending(instance, small.pipeline, log_level="ERROR")

    assert not run().did_nothing
    assert lake.head(places.MERGED_SPREADSHEET) is None
    small = small.with_settings(spreadsheet_csv=True)
    assert not run().did_nothing
    assert lake.head(places.MERGED_SPREADSHEET) is not None
    assert run().did_nothing


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with its time and its bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def merged_lake(small: SmallPipeline) -> None:
    assert small.execute("ingest").success
    complete(small.pipeline.lake, require_plan(small.pipeline.lake))
    assert small.execute("merge").success


def no_plan(small: SmallPipeline) -> None:
    group_reviews(small.pipeline.lake, small.pipeline.settings)


@pytest.mark.parametrize("prepare", [merged_lake, no_plan, None])
def test_a_dry_run_plans_as_a_run_does_and_changes_nothing(
    instance: dg.DagsterInstance,
    lake: Lake,
    pegasus: Path,
    tmp_path: Path,
    prepare: Callable[[SmallPipeline], None] | None,
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(6))
    small = SmallPipeline.build(instance, lake, pegasus, dump, engine="transformers")
    if prepare is not None:
        prepare(small)
    assert lake.directory is not None
    before = contents(lake.directory), contents(tmp_path / "dagster_home")
    others = {**dict(list(texts(6).items())[2:]), "P002": "Another text", "new": "A new one"}
    dump = write_dump(tmp_path / "other.csv", others)
    small = small.with_settings(dumps=(str(dump),), top_k=4, max_vanished_share=1)
    messages: list[str] = []
    stages: list[StageProgress] = []
    with dry_run(
        small.pipeline.settings,
        log_level="CRITICAL",
        say=messages.append,
        on_progress=stages.append,
    ) as (pipeline, status):
        priced = estimate(
            pipeline.lake,
            status.plan,
            [state.planned for state in status.incomplete],
            pipeline.settings,
            pipeline.compute.capacity,
        )
    assert (contents(lake.directory), contents(tmp_path / "dagster_home")) == before
    assert {stage.stage for stage in stages} == {"grouped_reviews"}
    if prepare is merged_lake:
        assert messages[0] == "planning again: dumps, or how they are read; top_k 30700 -> 4"
        assert "other.csv (grouped CSV): 5 rows read, 0 bad" in messages[1]
        assert messages[2].startswith("2 of 6 products are gone: 2 are in no dump any more")
        assert messages[3].startswith(
            "plan 2: 1 of 4 products need a summary: 0 are new, 1 changed"
        )
    else:
        assert [one[:42] for one in messages[1:]] == [
            "plan 1: 4 of 4 products need a summary: 4 a"[:42],
            "2 checkpoints are pending: 4 products, 4 chunks"[:42],
        ]
    assert small.execute("ingest").success
    plan = require_plan(lake)
    assert status.plan.plan_id == plan.plan_id
    pending = [state.planned for state in status.incomplete]
    assert priced == estimate(
        lake, plan, pending, small.pipeline.settings, small.pipeline.compute.capacity
    )


def test_a_plan_that_a_run_would_refuse_is_shown_and_refused(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(4))
    small = SmallPipeline.build(
        instance, lake, pegasus, dump, engine="transformers", max_vanished_share=0.1
    )
    assert small.execute("ingest").success
    settings = small.with_settings(top_k=2).pipeline.settings
    shown: list[LakeStatus] = []
    stages: list[StageProgress] = []
    with (
        pytest.raises(PlanError) as refused,
        dry_run(settings, log_level="CRITICAL", say=lambda _: None, on_progress=stages.append) as (
            _,
            status,
        ),
    ):
        shown.append(status)
    assert shown[0].plan.selected == 2
    assert stages == [], "of dumps that have not changed nothing is read"
    assert str(refused.value) in failure(small.with_settings(top_k=2).execute("ingest"))
    assert "2 of 4 products are gone: 0 are in no dump any more" in str(refused.value)
    assert require_plan(lake).sequence == 1


def test_the_request_of_a_dry_run_is_the_one_that_a_run_sends(
    instance: dg.DagsterInstance, processing: ProcessingEmulator, pegasus: Path, tmp_path: Path
) -> None:
    lake = lake_on(processing)
    dump = write_dump(tmp_path / "dump.csv", texts(3))
    small = SmallPipeline.build(instance, lake, pegasus, dump, engine="transformers", **SETTINGS)
    before = {prefix: lake.list(prefix) for prefix in (places.MODELS, places.GROUPED_REVIEWS)}
    with dry_run(small.pipeline.settings, log_level="CRITICAL", say=lambda _: None) as (
        pipeline,
        status,
    ):
        request = first_request(pipeline, status)
    assert request["ProcessingJobName"].startswith("reviewsum-")
    assert {prefix: lake.list(prefix) for prefix in before} == before
    assert lake.list(places.PLANS) == lake.list(places.PROCESSING_JOBS) == []
    assert small.execute("ingest").success
    planned = lake_status(lake)
    assert planned is not None
    assert first_request(small.pipeline, planned) == request
