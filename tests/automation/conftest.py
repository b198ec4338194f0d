from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.automation.sensors import new_dumps
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import plan_products, products
from tests.support.pipeline import FAST, SmallPipeline
from tests.support.ready_models import put_ready_model
from tests.support.sensors import Sensor, put_dump


@pytest.fixture
def small(instance: dg.DagsterInstance, lake: Lake, pegasus: Path) -> SmallPipeline:
    """A pipeline whose lake holds no dumps yet."""
    put_ready_model(lake, pegasus)
    settings = load_settings(lake=lake.uri, model=str(pegasus), **FAST)
    return SmallPipeline(instance, Pipeline(settings))


@pytest.fixture
def model_less(small: SmallPipeline) -> SmallPipeline:
    """Six products in three checkpoints, by a plan whose model is gone: no run can summarize."""
    plan_products(small.pipeline.lake, products(6), checkpoint_size=2)
    return small


@pytest.fixture
def planned(small: SmallPipeline) -> SmallPipeline:
    """Six products in three checkpoints, from a dump on the lake."""
    put_dump(small.pipeline.lake, 6)
    assert small.execute("ingest").success
    return small


@pytest.fixture
def dumps_sensor(small: SmallPipeline) -> Sensor:
    return Sensor(new_dumps, small)
