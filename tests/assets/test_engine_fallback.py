"""A fast engine that loads and cannot multiply: only its first batch tells."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from reviewsum_assets.checkpoints.plan import partition_key
from reviewsum_assets.cli.local_run import materialize_pending
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.broken_engine import NO_CUBLAS, break_ctranslate2
from tests.support.pipeline import SmallPipeline, failure, texts, write_dump


def build(tmp_path: Path, name: str, instance: dg.DagsterInstance, model: Path) -> SmallPipeline:
    dump = write_dump(tmp_path / "dump.csv", texts(5))
    lake = Lake.open(str(tmp_path / name))
    return SmallPipeline.build(instance, lake, model, dump)


def test_transformers_takes_over_with_the_same_bytes_and_the_reason_is_reported(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    pegasus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = build(tmp_path, "working", instance, pegasus)
    before = materialize_pending(instance, small.pipeline, log_level="CRITICAL").warnings
    expected = small.pipeline.lake.get(places.MERGED_CSV)

    small = build(tmp_path, "broken", instance, pegasus)
    assert small.execute("ingest").success
    break_ctranslate2(tmp_path / "at_start", monkeypatch)
    report = materialize_pending(instance, small.pipeline, log_level="CRITICAL")
    assert report.checkpoints_computed == 3
    assert small.pipeline.lake.get(places.MERGED_CSV) == expected
    (warning,) = set(report.warnings) - set(before)
    assert warning.startswith("the slower engine computed 3 checkpoints: ctranslate2 could not")
    assert NO_CUBLAS in warning
    assert "pip install '.[gpu]'" in warning

    (run,) = instance.get_runs(dg.RunsFilter(job_name="refresh"), limit=1)
    materialized = small.materializations(run)
    pages = {key: materialized[key] for key in map(partition_key, (1, 2, 3))}
    assert {page["engine"].partition(",")[0] for page in pages.values()} == {"transformers"}
    assert all(NO_CUBLAS in page["engine_reason"] for page in pages.values())


def test_an_engine_that_was_asked_for_by_name_is_not_replaced(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    pegasus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = build(tmp_path, "lake", instance, pegasus).with_settings(engine="ctranslate2")
    assert small.execute("ingest").success
    break_ctranslate2(tmp_path / "at_start", monkeypatch)
    run = small.summarize(1, 3)
    assert not run.success
    assert NO_CUBLAS in failure(run)
