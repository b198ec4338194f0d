"""Records of a lake are lost, cut off or changed: a run that names nothing makes them again."""

from __future__ import annotations

import pytest

from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.lake_state import verify
from reviewsum_assets.reviews.grouped import RECORD
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.worlds import World

DAMAGES = ["gone", "cut off", "changed"]


def damage(lake: Lake, key: str, how: str) -> None:
    content = bytearray(lake.get(key) or b"")
    assert content
    if how == "gone":
        lake.delete(key)
        return
    content[len(content) // 2] ^= 1
    lake.put(key, bytes(content[: len(content) // 2] if how == "cut off" else content))


def records(lake: Lake) -> list[str]:
    """One of each kind, but for that of the grouped reviews."""
    plan = require_plan(lake)
    model = plan.recipes[plan.recipe].model_version
    return [
        f"{places.model_directory(model)}/ready.json",
        f"{places.converted_model_directory(model)}/converted.json",
        places.checkpoint_manifest(2),
        places.MERGED_MANIFEST,
    ]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_run_that_names_nothing_makes_damaged_records_again(
    world: World, finished: World, how: str
) -> None:
    for key in (damaged := records(world.lake)):
        damage(world.lake, key, how)
    assert world.command("status").code == 0
    problems = "\n".join(verify(world.lake))
    for named in (damaged[0], "checkpoint_00002", "merged_summaries"):
        assert named in problems
    # It is said why the plan is looked at again.
    ended = world.command("run", "--dry-run")
    assert ended.code == 0, ended.err
    assert "planning again: model (model" in ended.err
    ended = world.command("run")
    assert ended.code == 0, ended.err
    assert "checkpoints  2 (1 computed" in ended.out
    assert verify(world.lake) == []
    assert world.merged == finished.merged


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_record_of_the_grouped_reviews_asks_for_the_dumps(world: World, how: str) -> None:
    damage(world.lake, RECORD, how)
    assert world.command("status").code == 0
    assert f"{RECORD} is missing or not what was written" in verify(world.lake)
    ended = world.command("run")
    assert ended.code == 1
    assert "or name files in the setting dumps (--dump)" in ended.err
    ended = world.run()
    assert ended.code == 0, ended.err
    assert verify(world.lake) == []


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("key", [places.PRODUCT_FACTS, places.SUMMARY_EVIDENCE, places.REPORT])
def test_a_run_makes_a_damaged_table_or_report_again(world: World, key: str, how: str) -> None:
    before = world.lake.get(key)
    damage(world.lake, key, how)
    may_lack = key == places.REPORT and world.lake.head(key) is None
    assert may_lack or key in "\n".join(verify(world.lake))
    ended = world.command("run")
    assert ended.code == 0, ended.err
    assert "(0 computed" in ended.out
    assert verify(world.lake) == []
    assert world.lake.get(key) == before or key == places.REPORT, "which names the lake"
