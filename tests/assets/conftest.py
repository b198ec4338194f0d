from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import SmallPipeline, texts, write_dump

Planned = Callable[..., SmallPipeline]


@pytest.fixture
def planned(instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path) -> Planned:
    """Plans a number of products, two per checkpoint."""

    def plan(count: int, **settings: object) -> SmallPipeline:
        dump = write_dump(tmp_path / "dump.csv", texts(count))
        small = SmallPipeline.build(instance, lake, pegasus, dump, **settings)
        assert small.execute("ingest").success
        return small

    return plan


@pytest.fixture
def small(planned: Planned) -> SmallPipeline:
    """Six products in three checkpoints, planned."""
    return planned(6)
