"""A small pipeline whose jobs run on the SageMaker Processing emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from reviewsum_assets.lake_state import lake_status
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import SmallPipeline, texts, write_dump
from tests.support.processing import ProcessingEmulator

ROLE = "arn:aws:iam::123456789012:role/reviewsum-job"
SETTINGS: dict[str, Any] = {
    "compute": "sagemaker",
    "role_arn": ROLE,
    "poll_seconds": 0.3,
    "retry_seconds": 0.1,
    # The containers are processes of this environment, which has all packages.
    "package_source": "image",
}


def lake_on(processing: ProcessingEmulator) -> Lake:
    """The lake on the emulator's bucket."""
    return Lake.open(f"s3://{processing.bucket}/lake")


def planned_pipeline(
    processing: ProcessingEmulator,
    instance: dg.DagsterInstance,
    model: Path,
    folder: Path,
    products: int = 4,
    **settings: Any,
) -> SmallPipeline:
    """So many products planned, two a checkpoint, nothing summarized."""
    dump = write_dump(folder / "dump.csv", texts(products))
    pipeline = SmallPipeline.build(
        instance, lake_on(processing), model, dump, **{**SETTINGS, **settings}
    )
    assert pipeline.execute("ingest").success
    return pipeline


def manifests(lake: Lake) -> dict[str, bytes | None]:
    """The manifests that lie on a lake, by key."""
    return {item.key: lake.get(item.key) for item in lake.list(places.CHECKPOINT_MANIFESTS)}


def incomplete(lake: Lake) -> list[int]:
    """Numbers of the checkpoints that are not valid."""
    status = lake_status(lake)
    assert status is not None
    return [state.planned.number for state in status.incomplete]
