from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from reviewsum_assets.checkpoints import prune as prune_module
from reviewsum_assets.checkpoints.manifest import Manifest
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan, require_plan
from reviewsum_assets.checkpoints.prune import prune
from reviewsum_assets.checkpoints.validity import check_checkpoints, lost_checkpoints
from reviewsum_assets.errors import PlanError
from reviewsum_assets.lake_state import lake_status, verify_lake
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake, LakeObject
from tests.support.checkpoints import complete, plan_products, products
from tests.support.clocks import FastClock

AT_ONCE = timedelta(0)


def planned_anew(lake: Lake, texts: dict[str, str], version: str, **settings: Any) -> Plan:
    """A plan, its checkpoints and its merged table, all complete."""
    outcome = plan_products(lake, texts, version=version, checkpoint_size=2, **settings)
    missing = [
        s.planned.number
        for s in check_checkpoints(lake, outcome.plan.checkpoints)
        if not s.is_valid
    ]
    complete(lake, outcome.plan, missing)
    merge_checkpoints(lake, outcome.plan)
    return outcome.plan


def with_a_retired_checkpoint(lake: Lake) -> Plan:
    """Checkpoints 1 to 3 of two products; the first was replaced by 4."""
    texts = products(6)
    planned_anew(lake, texts, "grouped-1")
    changed = {product: f"{text}, changed" for product, text in list(texts.items())[:2]}
    return planned_anew(lake, {**texts, **changed}, "grouped-2")


def keys(lake: Lake) -> set[str]:
    folders = (
        *(places.CHECKPOINT_CHUNKS, places.CHECKPOINT_FILES, places.CHECKPOINT_MANIFESTS),
        *(places.PLANS, places.GROUPED_REVIEWS, places.SUMMARIZED_DATASET, places.MODELS),
    )
    return {item.key for prefix in folders for item in lake.list(prefix)}


def chunks_key(lake: Lake, number: int) -> str:
    manifest = Manifest.unsealed(lake.get(places.checkpoint_manifest(number)) or b"")
    return places.checkpoint_chunks(number, manifest.chunks_sha256 or "")


def test_what_the_plan_needs_stays_and_the_rest_goes(any_lake: Lake) -> None:
    plan = with_a_retired_checkpoint(any_lake)
    assert [planned.number for planned in plan.retired] == [1]
    merged = any_lake.get(places.MERGED_CSV)

    pruned = prune(any_lake, older_than=AT_ONCE)

    now = require_plan(any_lake)
    assert pruned.retired == (1,)
    assert now.checkpoints == plan.checkpoints and now.retired == ()
    live = {planned.number for planned in now.checkpoints}
    assert live == {2, 3, 4}
    assert keys(any_lake) == {
        *(chunks_key(any_lake, number) for number in live),
        *map(places.checkpoint_csv, live),
        *map(places.checkpoint_manifest, live),
        *(planned.input_key for planned in now.checkpoints),
        places.plan_document(now.sequence),
        places.plan_table(now.plan_id),
        places.MERGED_CSV,
        places.MERGED_PARQUET,
        places.MERGED_MANIFEST,
    }
    assert verify_lake(any_lake) == []
    status = lake_status(any_lake)
    assert status is not None and status.is_merged and not status.incomplete
    assert any_lake.get(places.MERGED_CSV) == merged
    again = prune(any_lake, older_than=AT_ONCE)
    assert (again.retired, again.bytes, require_plan(any_lake)) == ((), 0, now)


def test_a_product_that_returns_after_its_checkpoint_was_removed_is_planned_anew(
    lake: Lake,
) -> None:
    texts = products(6)
    planned_anew(lake, texts, "grouped-1")
    planned_anew(lake, texts, "grouped-2", top_k=4)  # 5 and 6, all of checkpoint 3, fall out
    prune(lake, older_than=AT_ONCE)
    outcome = plan_products(lake, texts, version="grouped-3", checkpoint_size=2)
    assert (outcome.new, outcome.unchanged, outcome.added) == (2, 4, (4,))
    complete(lake, outcome.plan, outcome.added)
    merge_checkpoints(lake, outcome.plan)
    assert verify_lake(lake) == []


def test_chunk_summaries_of_an_earlier_computation_go(lake: Lake) -> None:
    plan = plan_products(lake, products(2), checkpoint_size=2).plan
    complete(lake, plan)
    before = chunks_key(lake, 1)
    complete(lake, plan, texts={"P000000": "another summary"})
    now = chunks_key(lake, 1)
    assert {item.key for item in lake.list(places.CHECKPOINT_CHUNKS)} == {before, now}
    # A manifest that cannot be read does not say which of them it names.
    manifest = lake.get(places.checkpoint_manifest(1)) or b""
    lake.put(places.checkpoint_manifest(1), b"{}")
    assert prune(lake, older_than=AT_ONCE).objects["checkpoints"] == ()
    lake.put(places.checkpoint_manifest(1), manifest)
    assert prune(lake, older_than=timedelta(hours=1)).objects["checkpoints"] == ()
    prune(lake, older_than=AT_ONCE)
    assert [item.key for item in lake.list(places.CHECKPOINT_CHUNKS)] == [now]


def test_a_call_that_was_killed_half_way_has_lost_nothing_and_is_finished_by_the_next(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_retired_checkpoint(lake)
    delete = Lake.delete

    def die_at_the_second(self: Lake, key: str) -> None:
        if key == places.checkpoint_manifest(1):
            raise KeyboardInterrupt
        delete(self, key)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "delete", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            prune(lake, older_than=AT_ONCE)
    assert verify_lake(lake) == []
    assert lake.get(places.checkpoint_manifest(1)) is not None
    prune(lake, older_than=AT_ONCE)
    assert lake.get(places.checkpoint_manifest(1)) is None
    assert verify_lake(lake) == []


def test_a_dry_run_names_what_would_go_and_what_is_young_stays(lake: Lake) -> None:
    plan = with_a_retired_checkpoint(lake)
    before = keys(lake)
    told = prune(lake, older_than=AT_ONCE, dry_run=True)
    named = {item.key for items in told.objects.values() for item in items}
    assert {places.checkpoint_csv(1), places.checkpoint_manifest(1)} <= named < before
    pruned = prune(lake, older_than=timedelta(hours=1))
    assert (pruned.retired, pruned.bytes) == ((), 0)
    lake.put(f"{places.LIVE_JOBS}/some-job", b"")
    with pytest.raises(PlanError, match="some-job"):
        prune(lake, older_than=AT_ONCE)
    assert (keys(lake), require_plan(lake)) == (before, plan)


def grow_old(lake: Lake, age: timedelta, plans: Iterable[int]) -> None:
    """Let all that is there but for plans be so old, and the plans with these numbers too."""
    assert lake.directory is not None
    then = time.time() - age.total_seconds()
    named = [places.plan_document(number) for number in plans]
    old = [key for key in keys(lake) if ".json" not in key or not key.startswith(places.PLANS)]
    for key in (*old, *named):
        os.utime(lake.directory / key, (then, then))


def test_ages_are_by_the_clock_of_the_store(
    any_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_retired_checkpoint(any_lake)
    monkeypatch.setattr(prune_module, "datetime", FastClock)
    assert prune(any_lake, older_than=timedelta(days=1)).bytes == 0


def test_what_was_retired_a_short_time_ago_stays_however_old_it_is(lake: Lake) -> None:
    with_a_retired_checkpoint(lake)
    plan_products(lake, products(6), version="grouped-2", checkpoint_size=2, model="model-2")
    grow_old(lake, timedelta(days=3), plans=[1, 2])
    # The first checkpoint was retired three days ago, by the second plan; 2, 3 and 4 just now.
    for _ in range(2):
        prune(lake, older_than=timedelta(days=1))
        plan = require_plan(lake)
        assert (plan.sequence, [planned.number for planned in plan.retired]) == (4, [2, 3, 4])
        assert lake.get(places.checkpoint_manifest(1)) is None
        assert lake.get(places.plan_document(1)) is None
    texts = {**products(6), "P000000": "text of product 0, changed"}
    back = plan_products(lake, texts, version="grouped-3", checkpoint_size=2)
    assert (back.changed, back.added) == (1, (2, 3, 4, 8))
    complete(lake, back.plan, [8])
    merge_checkpoints(lake, back.plan)
    assert verify_lake(lake) == []


def test_what_was_retired_a_long_time_ago_goes(lake: Lake) -> None:
    planned_anew(lake, products(6), "grouped-1")
    plan_products(lake, products(6), version="grouped-1", checkpoint_size=2, model="model-2")
    grow_old(lake, timedelta(days=3), plans=[1])
    assert prune(lake, older_than=timedelta(days=1)).retired == ()
    grow_old(lake, timedelta(days=3), plans=[1, 2])
    assert prune(lake, older_than=timedelta(days=1), dry_run=True).retired == (1, 2, 3)
    assert prune(lake, older_than=timedelta(days=1)).retired == (1, 2, 3)
    assert lake.list(places.CHECKPOINT_FILES) == []
    assert set(require_plan(lake).recipes) == {require_plan(lake).recipe}


@pytest.mark.parametrize(
    "moment", [places.LIVE_JOBS, places.CHECKPOINT_FILES, "grouped_reviews/plans", places.MODELS]
)
def test_a_plan_that_is_made_meanwhile_loses_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with_a_retired_checkpoint(lake)
    listing = Lake.list

    def slow_list(self: Lake, prefix: str) -> list[LakeObject]:
        if prefix != moment:
            return listing(self, prefix)
        monkeypatch.undo()
        plan_products(lake, products(8), version="newer", checkpoint_size=2)
        return listing(self, prefix)

    monkeypatch.setattr(Lake, "list", slow_list)
    with pytest.raises(PlanError, match="another plan was made meanwhile"):
        prune(lake, older_than=AT_ONCE)
    plan = require_plan(lake)
    assert plan.grouped_version == "newer"
    assert lost_checkpoints(lake, plan) == []
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    assert verify_lake(lake) == []


def test_the_model_in_use_stays_and_others_go_once_their_checkpoints_may(lake: Lake) -> None:
    texts = products(2)
    planned_anew(lake, texts, "grouped-1", model="old")
    planned_anew(lake, texts, "grouped-1", model="new")
    for version in ("old", "new"):
        lake.put(f"{places.model_directory(version)}/model.safetensors", b"weights")
        lake.put(f"{places.converted_model_directory(version)}/model.bin", b"weights")
        lake.put(f"{places.MODELS}/sources/{version}", version.encode())
    before = lake.list(places.MODELS)
    grow_old(lake, timedelta(days=3), plans=[1])
    prune(lake, older_than=timedelta(days=1))
    assert [item.key for item in lake.list(places.MODELS)] == [item.key for item in before]
    prune(lake, older_than=AT_ONCE)
    assert [item.key for item in lake.list(places.MODELS)] == [
        "models/new.ctranslate2/model.bin",
        "models/new/model.safetensors",
        "models/sources/new",
        "models/sources/old",
    ]


def test_checkpoints_of_a_newer_plan_that_this_lake_was_restored_without_stay(lake: Lake) -> None:
    newer = with_a_retired_checkpoint(lake)
    lake.delete(places.plan_document(newer.sequence))  # a backup of yesterday
    prune(lake, older_than=AT_ONCE)
    again = with_a_retired_checkpoint(lake)
    assert again.checkpoint(4).data_version == newer.checkpoint(4).data_version
    assert verify_lake(lake) == []
