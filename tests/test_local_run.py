from __future__ import annotations

from pathlib import Path

import dagster as dg

from reviewsum_assets import places
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.lake import Lake
from reviewsum_assets.local_run import RunReport, materialize_pending
from tests.support.checkpoints import complete
from tests.support.pipeline import SmallPipeline, texts, write_dump


def test_a_table_for_spreadsheets_that_is_asked_for_later_is_written_once(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(2))
    small = SmallPipeline.build(instance, lake, pegasus, dump, engine="transformers")
    assert small.execute("ingest").success
    complete(lake, require_plan(lake))

    def run() -> RunReport:
        return materialize_pending(instance, small.pipeline, log_level="ERROR")

    assert run().merged
    assert lake.head(places.MERGED_SPREADSHEET) is None
    small = small.with_settings(spreadsheet_csv=True)
    assert run().merged
    assert lake.head(places.MERGED_SPREADSHEET) is not None
    assert run().did_nothing
