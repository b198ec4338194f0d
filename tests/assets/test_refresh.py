"""Job ``refresh``: from dumps to the merged table in one run."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from reviewsum_assets.checkpoints.plan import partition_key
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.pipeline import SmallPipeline, texts, write_dump

KEY = dg.AssetKey("chunk_summaries")


def test_one_run_goes_from_dumps_to_the_table_and_lands_partitions(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(5))
    small = SmallPipeline.build(instance, lake, pegasus, dump)
    run = small.refresh()
    assert run.success
    assert (lake.get(places.MERGED_CSV) or b"").count(b"\n") == 6
    keys = [partition_key(number) for number in (1, 2, 3)]
    assert set(keys) <= set(small.materializations(run))
    statuses = instance.get_materialized_partitions(KEY)
    assert statuses == set(keys)
    messages = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert any("3 checkpoints are pending: 5 products" in message for message in messages)
    before = {item.key: item.e_tag for item in lake.list(places.CHECKPOINT_MANIFESTS)}
    again = small.refresh()
    assert again.success
    assert {item.key: item.e_tag for item in lake.list(places.CHECKPOINT_MANIFESTS)} == before
    assert not set(keys) & set(small.materializations(again))
