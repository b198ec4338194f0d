from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets import places
from reviewsum_assets.lake import Lake
from tests.support.pipeline import SmallPipeline, write_dump
from tests.support.sensors import Sensor, put_dump, put_run

pytestmark = pytest.mark.usefixtures("no_pause")


def test_without_dumps_nothing_is_requested(dumps_sensor: Sensor) -> None:
    assert "no reviews to read" in dumps_sensor.skipped()


def test_a_new_dump_is_ingested_at_the_second_look_and_only_once(
    dumps_sensor: Sensor, lake: Lake
) -> None:
    put_dump(lake, 4)
    assert "waiting until a second look" in dumps_sensor.skipped()
    request, again = dumps_sensor.requested(), dumps_sensor.requested()
    assert request.tags["reviewsum/purpose"] == "new dumps"
    assert dumps_sensor.launch(request).success
    assert dumps_sensor.launch(again) is None
    assert "planned already" in dumps_sensor.skipped()


def test_a_dump_that_grows_is_left_alone_until_it_has_stopped(
    dumps_sensor: Sensor, lake: Lake
) -> None:
    for products in (2, 4, 6):
        put_dump(lake, products)
        assert "waiting until a second look" in dumps_sensor.skipped()
    assert dumps_sensor.requested().tags["reviewsum/attempt"] == "1 of 3"


def test_what_is_planned_already_is_not_requested_at_the_first_looks(
    planned: SmallPipeline, dumps_sensor: Sensor
) -> None:
    assert "all 1 dumps are planned already" in dumps_sensor.skipped()
    assert "all 1 dumps are planned already" in dumps_sensor.skipped()


def test_a_dump_more_waits_for_the_ingest_that_runs(
    planned: SmallPipeline, dumps_sensor: Sensor, lake: Lake
) -> None:
    put_dump(lake, 7, "b.csv")
    dumps_sensor.skipped()
    run_id = put_run(planned, "ingest", dg.DagsterRunStatus.STARTED)
    assert dumps_sensor.skipped() == f"waiting for run {run_id} of ingest"


def test_a_dump_more_does_not_wait_for_a_job(
    planned: SmallPipeline, dumps_sensor: Sensor, lake: Lake
) -> None:
    put_dump(lake, 7, "b.csv")
    put_run(planned, "summarize", dg.DagsterRunStatus.STARTED)
    dumps_sensor.skipped()
    assert dumps_sensor.launch(dumps_sensor.requested()) is not None


def test_a_dump_that_cannot_be_read_is_tried_three_times_and_another_starts_anew(
    dumps_sensor: Sensor, lake: Lake
) -> None:
    lake.put(f"{places.REVIEW_DUMPS}/a.csv", b"not,a\ndump,of reviews\n")
    dumps_sensor.skipped()
    for attempt in ("1 of 3", "2 of 3", "3 of 3"):
        request = dumps_sensor.requested()
        assert request.tags["reviewsum/attempt"] == attempt
        assert not dumps_sensor.launch(request).success
    told = dumps_sensor.skipped()
    assert "ingest got no further in 3 runs" in told
    assert f"{places.REVIEW_DUMPS}/a.csv" in told
    put_dump(lake, 4)
    dumps_sensor.skipped()
    assert dumps_sensor.launch(dumps_sensor.requested()).success


def test_files_that_come_and_go_are_ingested_each_time(
    dumps_sensor: Sensor, lake: Lake, tmp_path: Path
) -> None:
    put_dump(lake, 6, "a.csv")
    there, away = Path(lake.uri, places.REVIEW_DUMPS, "b.csv"), tmp_path / "b.csv"
    write_dump(there, {"Q": "A product that only this dump has"})
    for _ in range(4):
        for source, target in ((there, away), (away, there)):
            source.rename(target)
            dumps_sensor.skipped()
            request = dumps_sensor.requested()
            assert request.tags["reviewsum/attempt"] == "1 of 3"
            assert dumps_sensor.launch(request).success
