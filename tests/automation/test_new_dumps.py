from __future__ import annotations

from pathlib import Path

import dagster as dg

from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import SmallPipeline, write_dump
from tests.support.sensors import Sensor, put_dump, put_run

PLANNED = "all 1 dumps are planned already"


def test_a_new_dump_becomes_a_table_by_one_run_once_it_has_stopped_growing(
    dumps_sensor: Sensor, lake: Lake
) -> None:
    assert "no reviews to read" in dumps_sensor.skipped()
    for products in (2, 4):
        put_dump(lake, products)
        assert "waiting until a second tick" in dumps_sensor.skipped()
    cursor = dumps_sensor.cursor
    first = dumps_sensor.requested()
    assert first.tags["reviewsum/purpose"] == "new dumps: there is no plan"
    dumps_sensor.cursor = cursor  # as after a crash of the daemon
    again = dumps_sensor.requested()
    assert dumps_sensor.launch(first).success
    assert dumps_sensor.launch(again) is None
    assert dumps_sensor.skipped() == PLANNED
    assert lake.get(places.MERGED_CSV)


def test_a_dump_more_waits_for_the_run_in_progress(
    planned: SmallPipeline, dumps_sensor: Sensor, lake: Lake
) -> None:
    assert [dumps_sensor.skipped() for _ in range(2)] == [PLANNED] * 2
    put_dump(lake, 7, "b.csv")
    dumps_sensor.skipped()
    run_id = put_run(planned, "ingest", dg.DagsterRunStatus.STARTED)
    assert dumps_sensor.skipped() == f"waiting for run {run_id} of ingest"


def test_a_dump_that_cannot_be_read_is_tried_once_and_its_correction_starts_a_run(
    dumps_sensor: Sensor, lake: Lake
) -> None:
    lake.put(f"{places.REVIEW_DUMPS}/a.csv", b"not,a\ndump,of reviews\n")
    dumps_sensor.skipped()
    failed = dumps_sensor.launch(dumps_sensor.requested())
    assert not failed.success
    for _ in range(2):
        said = dumps_sensor.skipped()
        assert f"run {failed.run_id} for these dumps failed" in said
        assert f"{places.REVIEW_DUMPS}/a.csv" in said
    put_dump(lake, 4)
    dumps_sensor.skipped()
    request = dumps_sensor.requested()
    run_id = put_run(dumps_sensor.small, "refresh", dg.DagsterRunStatus.CANCELED, request.tags)
    assert f"run {run_id} for these dumps was canceled" in dumps_sensor.skipped()


def test_files_that_come_and_go_are_planned_each_time(
    dumps_sensor: Sensor, lake: Lake, tmp_path: Path
) -> None:
    put_dump(lake, 6, "a.csv")
    there, away = Path(lake.uri, places.REVIEW_DUMPS, "b.csv"), tmp_path / "b.csv"
    write_dump(there, {"Q": "A product that only this dump has"})
    for _ in range(2):
        for source, target in ((there, away), (away, there)):
            source.rename(target)
            dumps_sensor.skipped()
            assert dumps_sensor.launch(dumps_sensor.requested(), "ingest").success


def test_changed_settings_of_the_environment_are_planned(
    planned: SmallPipeline, dumps_sensor: Sensor, lake: Lake
) -> None:
    dumps_sensor.skipped()
    dumps_sensor.small = planned.with_settings(top_k=3)
    assert "top_k 30700 -> 3" in dumps_sensor.skipped()
    request = dumps_sensor.requested()
    assert request.tags["reviewsum/purpose"] == "new dumps: top_k 30700 -> 3"
    assert dumps_sensor.launch(request, "ingest").success
    assert require_plan(lake).selected == 3


def test_two_environments_do_not_undo_each_others_plans(
    planned: SmallPipeline, dumps_sensor: Sensor
) -> None:
    dumps_sensor.skipped()
    assert planned.with_settings(top_k=3).execute("ingest").success
    for _ in range(3):
        said = dumps_sensor.skipped()
        assert "the current plan differs from this environment (top_k 3 -> 30700)" in said
        assert "launch refresh" in said
