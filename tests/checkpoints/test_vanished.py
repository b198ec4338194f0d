"""A plan that takes much away needs a yes, and says what is gone by cause."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from reviewsum_assets.checkpoints.plan import Vanished, current_plan
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.errors import PlanError
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import grouped, plan_products, products
from tests.support.dumps import FORMATS, reviews_of, write
from tests.support.pipeline import SmallPipeline, failure


def test_what_is_gone_is_counted_by_cause(lake: Lake) -> None:
    plan_products(lake, products(10), top_k=10)
    left = {name: text for name, text in products(10).items() if name not in ("P000003", "P000004")}
    settings = load_settings(top_k=5, max_vanished_share=1)
    too_few = pl.LazyFrame({"product_id": ["P000004", "of old"]})
    outcome = make_plan(lake, grouped(left), "grouped-2", "model-1", settings, too_few=too_few)
    assert outcome.vanished == Vanished(absent=1, too_few=1, below_top_k=3, before=10)
    assert str(outcome.vanished) == (
        "5 of 10 products are gone: 1 are in no dump any more, 1 have too few reviews, 3 are below "
        "top_k"
    )


@pytest.mark.parametrize(("share", "is_made"), [(0.2, True), (0.19, False)])
def test_the_share_that_may_vanish_decides(lake: Lake, share: float, is_made: bool) -> None:
    first = plan_products(lake, products(10)).plan
    left = dict(list(products(10).items())[2:])
    if is_made:
        assert plan_products(lake, left, version="grouped-2", max_vanished_share=share).made
    else:
        with pytest.raises(PlanError, match=r"2 of 10 products are gone: 2 are in no dump"):
            plan_products(lake, left, version="grouped-2", max_vanished_share=share)
        assert current_plan(lake) == first


def test_new_products_make_up_for_none_that_are_gone(lake: Lake) -> None:
    plan_products(lake, products(10))
    others = {f"other {name}": text for name, text in products(10).items()}
    with pytest.raises(PlanError, match="10 of 10 products are gone"):
        plan_products(lake, others, version="grouped-2", max_vanished_share=0.05)


def test_a_cut_off_dump_leaves_the_table_until_the_loss_is_confirmed(
    lake: Lake, pegasus: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    dump = tmp_path / "dump.jsonl"
    many = [review for n in range(6) for review in reviews_of(f"P{n}")]
    write(dump, FORMATS["2018"](many))
    small = SmallPipeline.build(instance, lake, pegasus, dump, max_vanished_share=0.05)
    assert small.refresh().success
    before = lake.get(places.MERGED_CSV)
    assert (before or b"").count(b"\n") == 7

    few = [*reviews_of("P0"), *reviews_of("P1"), *reviews_of("P2", 4)]
    write(dump, FORMATS["2018"](few))
    run = small.refresh()
    assert "4 of 6 products are gone: 3 are in no dump any more, 1 have too few" in failure(run)
    assert "--max-vanished-share 1" in failure(run)
    assert lake.get(places.MERGED_CSV) == before

    assert small.with_settings(max_vanished_share=1).refresh().success
    assert (lake.get(places.MERGED_CSV) or b"").count(b"\n") == 3
