from __future__ import annotations

import io

import polars as pl
import pytest

from reviewsum_assets.checkpoints.manifest import QuarantinedProduct, decode_rows, require_summaries
from reviewsum_assets.checkpoints.merge import (
    COVERAGE_COLUMNS,
    MERGED_SCHEMA,
    current_merged_table,
    merge_checkpoints,
)
from reviewsum_assets.errors import CheckpointError
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, plan_products, products


def merged_rows(lake: Lake) -> dict[str, tuple[str, int]]:
    rows = decode_rows(lake.get(places.MERGED_CSV) or b"")
    table = {row.product_id: (row.abstracted_summary, row.review_count) for row in rows}
    assert len(table) == len(rows)
    return table


def reads(lake: Lake) -> dict[str, tuple[int | None, int | None]]:
    table = pl.read_parquet(io.BytesIO(lake.get(places.MERGED_PARQUET) or b""))
    columns = table.select("product_id", *COVERAGE_COLUMNS.names())
    return {product: (read, cut) for product, read, cut in columns.iter_rows()}


def test_every_product_is_merged_once_with_exactly_the_contracts_columns(lake: Lake) -> None:
    plan = plan_products(lake, products(250)).plan
    complete(lake, plan)
    merged = merge_checkpoints(lake, plan)
    content = lake.get(places.MERGED_CSV) or b""
    assert content.splitlines()[0] == b"product_id,abstracted_summary,review_count"
    assert merged_rows(lake).keys() == products(250).keys()
    assert (merged.rows, merged.completeness) == (250, 1.0)


def test_csv_and_parquet_hold_the_same(any_lake: Lake) -> None:
    texts = {"a": 'quotes " and, commas', "b": "two\nlines", "c": "ünïcode 🎧", "d": ""}
    plan = plan_products(any_lake, texts, checkpoint_size=2).plan
    complete(any_lake, plan)
    merge_checkpoints(any_lake, plan)
    table = pl.read_parquet(io.BytesIO(any_lake.get(places.MERGED_PARQUET) or b""))
    assert table.schema == pl.Schema({**MERGED_SCHEMA, **COVERAGE_COLUMNS})
    contract = table.select(MERGED_SCHEMA.names())
    assert {row[0]: row[1:] for row in contract.iter_rows()} == merged_rows(any_lake)


def test_the_parquet_table_tells_how_many_reviews_were_read(lake: Lake) -> None:
    texts = {"a": "one more\ntwo\nthree", "b": "all of it"}
    counts = {"a": 3, "b": 1, "c": 3}
    plan = plan_products(lake, texts, counts=counts, max_chars=9, separable=True).plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    assert reads(lake) == {"a": (1, 1), "b": (1, 0)}
    texts = {"b": "all of it", "c": "one line of three reviews"}
    plan = plan_products(lake, texts, counts=counts, max_chars=9, max_vanished_share=1).plan
    complete(lake, plan, numbers=[2])
    merge_checkpoints(lake, plan)
    assert reads(lake) == {"b": (1, 0), "c": (None, None)}


def test_more_than_a_thousand_checkpoints_merge(lake: Lake) -> None:
    plan = plan_products(lake, products(1100), checkpoint_size=1).plan
    complete(lake, plan)
    assert merge_checkpoints(lake, plan).rows == 1100
    assert len(merged_rows(lake)) == 1100


def test_a_product_comes_from_its_newest_checkpoint_with_the_plans_review_count(
    lake: Lake,
) -> None:
    complete(lake, plan_products(lake, {"a": "old", "b": "same"}, counts={"a": 5, "b": 5}).plan)
    plan = plan_products(
        lake, {"a": "new", "b": "same"}, counts={"a": 6, "b": 9}, version="grouped-2"
    ).plan
    complete(lake, plan, numbers=[2])
    merge_checkpoints(lake, plan)
    assert merged_rows(lake) == {"a": ("summary of new", 6), "b": ("summary of same", 9)}


def test_a_product_that_is_no_longer_selected_is_not_merged(lake: Lake) -> None:
    complete(lake, plan_products(lake, products(3)).plan)
    plan = plan_products(lake, products(3), top_k=2).plan
    merge_checkpoints(lake, plan)
    assert sorted(merged_rows(lake)) == ["P000000", "P000001"]


def test_quarantined_products_are_counted_and_not_merged(lake: Lake) -> None:
    plan = plan_products(lake, products(3)).plan
    complete(lake, plan, poison=["P000001"])
    merged = merge_checkpoints(lake, plan)
    assert (merged.rows, merged.quarantined, merged.completeness) == (2, 1, 1.0)


def test_a_plan_without_any_summary_is_not_merged_and_the_old_table_stays(lake: Lake) -> None:
    complete(lake, plan_products(lake, products(3)).plan)
    merge_checkpoints(lake, plan_products(lake, products(3)).plan)
    before = lake.get(places.MERGED_CSV)
    plan = plan_products(lake, products(3), max_length=99).plan
    complete(lake, plan, poison=products(3))
    with pytest.raises(CheckpointError, match=r"all 3 are in quarantine, 3 of them for.*: poison"):
        merge_checkpoints(lake, plan)
    assert lake.get(places.MERGED_CSV) == before


def test_the_most_frequent_reason_is_named_without_its_place_in_a_product() -> None:
    reasons = ["chunk 1 of 3: slow", "level 2, chunk 2 of 2: slow", "no text to summarize"]
    bad = [QuarantinedProduct(product_id=r, input_hash="", reason=r) for r in reasons]
    with pytest.raises(CheckpointError, match=r"all 3 are in quarantine, 2 of them.*: slow"):
        require_summaries(0, bad)
    require_summaries(1, bad)
    require_summaries(0, [])


def test_a_missing_checkpoint_fails_the_merge_by_name_and_keeps_the_old_table(lake: Lake) -> None:
    complete(lake, plan_products(lake, products(2)).plan)
    merge_checkpoints(lake, plan_products(lake, products(2)).plan)
    before = lake.get(places.MERGED_CSV)
    plan = plan_products(lake, {**products(2), "new": "x"}, version="grouped-2").plan
    with pytest.raises(CheckpointError, match=r"checkpoint_00002 \(missing: no manifest\)"):
        merge_checkpoints(lake, plan)
    assert lake.get(places.MERGED_CSV) == before


def test_an_incomplete_merge_is_stamped_with_what_it_lacks(lake: Lake) -> None:
    plan = plan_products(lake, products(4), checkpoint_size=1).plan
    complete(lake, plan, numbers=[1, 3, 4])
    merged = merge_checkpoints(lake, plan, allow_incomplete=True)
    assert (merged.rows, merged.incomplete_checkpoints, merged.completeness) == (3, (2,), 0.75)
    assert current_merged_table(lake) == merged


def test_nothing_at_all_is_not_merged_even_if_incomplete_is_allowed(lake: Lake) -> None:
    plan = plan_products(lake, products(4)).plan
    with pytest.raises(CheckpointError, match="1 of 1 checkpoints cannot be merged"):
        merge_checkpoints(lake, plan, allow_incomplete=True)


def test_merging_twice_gives_the_same_bytes(lake: Lake) -> None:
    plan = plan_products(lake, products(30), checkpoint_size=7).plan
    complete(lake, plan)
    assert merge_checkpoints(lake, plan) == merge_checkpoints(lake, plan)
