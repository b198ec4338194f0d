from __future__ import annotations

import dagster as dg

from reviewsum_assets.assets.product_facts import product_facts
from reviewsum_assets.definitions import defs
from reviewsum_assets.storage import places
from tests.support.pipeline import SmallPipeline, failure


def materialize(small: SmallPipeline) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [product_facts],
        instance=small.instance,
        resources={"pipeline": small.pipeline},
        raise_on_error=False,
    )


def test_facts_have_row_count_place_preview_and_counts(small: SmallPipeline) -> None:
    first, second = (small.materializations(materialize(small))["product_facts"] for _ in range(2))
    assert (first["dagster/row_count"], first["products_computed"]) == (6, 6)
    assert first["dagster/uri"].endswith(places.PRODUCT_FACTS)
    assert "| P000 |" in first["preview"]
    assert "The sound of number 0 is good, the battery poor" in first["preview"]
    assert (second["products_computed"], second["products_unchanged"]) == (0, 6)


def test_facts_need_grouped_reviews(small: SmallPipeline) -> None:
    for item in small.pipeline.lake.list(places.GROUPED_REVIEWS):
        small.pipeline.lake.delete(item.key)
    assert "there are no grouped reviews yet" in failure(materialize(small))


def test_refresh_makes_facts_and_no_summary_depends_on_them() -> None:
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey("product_facts")
    assert key in defs.resolve_job_def("refresh").asset_layer.selected_asset_keys
    children = {dg.AssetKey("summary_evidence"), dg.AssetKey("summary_report")}
    assert graph.get(key).child_keys == children
