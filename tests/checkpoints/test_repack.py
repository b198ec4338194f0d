from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from reviewsum_assets import places
from reviewsum_assets.checkpoints.chunk_records import damaged_chunks, read_chunks
from reviewsum_assets.checkpoints.files import decode_rows
from reviewsum_assets.checkpoints.manifest import (
    Manifest,
    QuarantinedProduct,
    SummarizedProduct,
)
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import Plan, read_table, require_plan
from reviewsum_assets.checkpoints.prune import prune
from reviewsum_assets.checkpoints.repack import repack
from reviewsum_assets.checkpoints.status import verify_lake
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.errors import PlanError
from reviewsum_assets.lake import Lake
from tests.checkpoints.test_prune import AT_ONCE
from tests.support.checkpoints import complete, plan_products, products, retime

SIZE = 4
BELOW = 0.6


def spread_out(lake: Lake) -> Plan:
    """Ten products in checkpoints of four; then five single ones change, one dump after another."""
    texts = products(10)
    outcome = plan_products(lake, texts, checkpoint_size=SIZE)
    complete(lake, outcome.plan, outcome.added, poison=["P000008"])
    for count, product in enumerate(list(texts)[:5]):
        texts[product] += ", changed"
        outcome = plan_products(lake, texts, version=f"grouped-{count + 2}", checkpoint_size=SIZE)
        complete(lake, outcome.plan, outcome.added)
    merge_checkpoints(lake, outcome.plan)
    return outcome.plan


def merged(lake: Lake) -> dict[str, tuple[str, int]]:
    rows = decode_rows(lake.get(places.MERGED_CSV) or b"")
    return {row.product_id: (row.abstracted_summary, row.review_count) for row in rows}


def manifest(lake: Lake, number: int) -> Manifest:
    return Manifest.model_validate_json(lake.get(places.checkpoint_manifest(number)) or b"")


def records(found: Manifest) -> list[SummarizedProduct | QuarantinedProduct]:
    return [*found.products, *found.quarantined]


def chunks_of(
    lake: Lake, found: Manifest, product: SummarizedProduct | QuarantinedProduct
) -> list[tuple[object, ...]]:
    table = read_chunks(lake, found)
    assert table is not None
    return table.filter(pl.col("product_id") == product.product_id).rows()


def test_the_summaries_are_the_same_in_fewer_checkpoints(any_lake: Lake) -> None:
    plan = spread_out(any_lake)
    assert [c.number for c in plan.checkpoints] == [2, 3, 4, 5, 6, 7, 8]
    before = merged(any_lake)

    packed = repack(any_lake, checkpoint_size=SIZE, below=BELOW)

    # Checkpoint 2 has three current products of four and is left alone.
    assert packed.sources == (3, 4, 5, 6, 7, 8)
    assert packed.targets == (9, 10)
    assert packed.products == 7
    now = require_plan(any_lake)
    assert [c.number for c in now.checkpoints] == [2, 9, 10]
    assert [c.number for c in now.retired] == [1, 3, 4, 5, 6, 7, 8]
    merge_checkpoints(any_lake, now)
    assert merged(any_lake) == before
    assert verify_lake(any_lake) == []


def test_nothing_is_to_be_computed_or_planned_afterwards(lake: Lake) -> None:
    spread_out(lake)
    repack(lake, checkpoint_size=SIZE, below=BELOW)
    plan = require_plan(lake)
    assert all(state.is_valid for state in check_checkpoints(lake, plan.checkpoints))
    texts = {
        product: text + (", changed" if number < 5 else "")
        for number, (product, text) in enumerate(products(10).items())
    }
    assert not plan_products(lake, texts, version="grouped-6", checkpoint_size=SIZE).made


def test_a_packed_checkpoint_can_be_computed_again_from_its_own_input(lake: Lake) -> None:
    spread_out(lake)
    packed = repack(lake, checkpoint_size=SIZE, below=BELOW)
    plan = require_plan(lake)
    csv = lake.get(places.checkpoint_csv(packed.targets[0]))
    lake.delete(places.checkpoint_csv(packed.targets[0]))
    complete(lake, plan, packed.targets[:1], poison=["P000008"])
    assert lake.get(places.checkpoint_csv(packed.targets[0])) == csv


def test_cost_reason_and_maker_of_every_product_are_kept(lake: Lake) -> None:
    spread_out(lake)
    retime(lake, 5, seconds=3.0, job_name="the-job-of-5")
    sources = {number: manifest(lake, number) for number in range(3, 9)}
    packed = repack(lake, checkpoint_size=SIZE, below=BELOW)
    found = [manifest(lake, number) for number in packed.targets]
    for target in found:
        for product in records(target):
            assert product.repacked_from is not None
            source = sources[product.repacked_from]
            assert product.model_copy(update={"repacked_from": None}) in records(source)
            assert target.producer_of(product) == source.producer
            assert chunks_of(lake, target, product) == chunks_of(lake, source, product)
        assert target.seconds == 0.0
    assert {failed.product_id for target in found for failed in target.quarantined} == {"P000008"}
    assert "the-job-of-5" in {
        producer.job_name for target in found for producer in target.repacked_from.values()
    }


def test_packing_twice_keeps_the_first_origin(lake: Lake) -> None:
    spread_out(lake)
    repack(lake, checkpoint_size=2, below=0.9)
    assert repack(lake, checkpoint_size=SIZE, below=1.0).products > 0
    plan = require_plan(lake)
    for planned in plan.checkpoints:
        made = manifest(lake, planned.number)
        origins = {product.repacked_from for product in made.products}
        assert all(origin is None or origin <= 8 for origin in origins)


def test_what_is_not_valid_is_left_alone(lake: Lake) -> None:
    spread_out(lake)
    lake.delete(places.checkpoint_csv(5))
    packed = repack(lake, checkpoint_size=SIZE, below=BELOW)
    assert packed.sources == (3, 4, 6, 7, 8)
    plan = require_plan(lake)
    assert [
        s.planned.number for s in check_checkpoints(lake, plan.checkpoints) if not s.is_valid
    ] == [5]


def test_a_lake_that_is_full_already_is_not_touched(lake: Lake) -> None:
    outcome = plan_products(lake, products(9), checkpoint_size=SIZE)
    complete(lake, outcome.plan)
    assert repack(lake, checkpoint_size=SIZE, below=BELOW).targets == ()
    assert require_plan(lake) == outcome.plan


@pytest.mark.parametrize(
    "place", [places.checkpoint_csv, lambda number: places.checkpoint_chunks(number, "0")]
)
def test_numbers_that_others_have_used_are_not_used(
    lake: Lake, place: Callable[[int], str]
) -> None:
    plan = spread_out(lake)
    lake.put(place(plan.last_number + 3), b"left by somebody")
    packed = repack(lake, checkpoint_size=SIZE, below=BELOW)
    assert min(packed.targets) == plan.last_number + 4
    assert lake.get(place(plan.last_number + 3)) == b"left by somebody"


def test_a_checkpoint_that_lands_meanwhile_keeps_its_chunk_summaries(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = spread_out(lake)
    texts = {**products(10), "new": "came meanwhile"}
    taken = plan.last_number + 1
    put = Lake.put

    def slow_put(self: Lake, key: str, data: bytes) -> None:
        if key.endswith(f"/checkpoint_{taken}.parquet"):  # another planner and its job are faster
            monkeypatch.undo()
            other = plan_products(lake, texts, version="other", checkpoint_size=SIZE)
            complete(lake, other.plan, other.added)
        put(self, key, data)

    monkeypatch.setattr(Lake, "put", slow_put)
    with pytest.raises(PlanError, match="written by others meanwhile"):
        repack(lake, checkpoint_size=SIZE, below=BELOW)
    now = require_plan(lake)
    assert manifest(lake, taken).plan_id == now.plan_id
    assert damaged_chunks(lake, now) == {}


def test_a_plan_made_meanwhile_wins(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = spread_out(lake)
    create = Lake.create

    def slow_create(self: Lake, key: str, data: bytes) -> bool:
        if key == places.plan_document(plan.sequence + 1):  # another planner is faster
            monkeypatch.undo()
            plan_products(
                lake, products(3), version="other", checkpoint_size=SIZE, max_vanished_share=1
            )
        return create(self, key, data)

    monkeypatch.setattr(Lake, "create", slow_create)
    with pytest.raises(PlanError, match="meanwhile"):
        repack(lake, checkpoint_size=SIZE, below=BELOW)
    assert require_plan(lake).selected == 3


def test_a_repacked_lake_is_pruned_of_what_was_packed(lake: Lake) -> None:
    spread_out(lake)
    before = merged(lake)
    packed = repack(lake, checkpoint_size=SIZE, below=BELOW)
    prune(lake, older_than=AT_ONCE)
    assert {
        places.checkpoint_number_of(item.key) for item in lake.list(places.CHECKPOINT_MANIFESTS)
    } == {2, *packed.targets}
    plan = require_plan(lake)
    merge_checkpoints(lake, plan)
    assert merged(lake) == before
    assert read_table(lake, plan).height == 10
    assert verify_lake(lake) == []
