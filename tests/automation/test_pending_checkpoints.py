from __future__ import annotations

import shutil

from reviewsum_assets import lake as places
from reviewsum_assets.checkpoints.status import verify_lake
from tests.support.pipeline import SmallPipeline
from tests.support.sensors import Sensor

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def remove_models(small: SmallPipeline) -> None:
    """No run can summarize from now on."""
    shutil.rmtree(f"{small.pipeline.lake.uri}/{places.MODELS}")


def test_without_a_plan_nothing_is_requested(checkpoints_sensor: Sensor) -> None:
    assert "there is no plan yet" in checkpoints_sensor.skipped()


def test_one_run_computes_what_is_pending_one_merges_and_then_nothing_happens(
    planned: SmallPipeline, checkpoints_sensor: Sensor
) -> None:
    request = checkpoints_sensor.requested()
    assert (request.job_name, request.tags["reviewsum/purpose"]) == (
        "summarize",
        "pending checkpoints",
    )
    assert (request.tags[START], request.tags[END]) == ("checkpoint_00001", "checkpoint_00003")
    assert checkpoints_sensor.launch(request).success
    merge = checkpoints_sensor.requested()
    assert (merge.job_name, merge.tags["reviewsum/purpose"]) == (
        "merge",
        "merge of a finished plan",
    )
    assert checkpoints_sensor.launch(merge).success
    assert "valid and merged" in checkpoints_sensor.skipped()
    assert verify_lake(planned.pipeline.lake) == []
