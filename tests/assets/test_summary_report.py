from __future__ import annotations

import dagster as dg

from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.definitions import defs
from reviewsum_assets.report.writer import has_current_report
from reviewsum_assets.storage import places
from tests.report.support import read_page
from tests.support.checkpoints import complete
from tests.support.pipeline import SmallPipeline, failure


def test_merge_writes_the_report_and_its_pages_name_it(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    complete(lake, require_plan(lake))
    found = small.materializations(small.execute("merge"))
    page = lake.uri_of(places.REPORT)
    assert found["merged_summaries"]["report"] == found["summary_report"]["report"] == page
    assert found["summary_report"]["products"] == found["summary_report"]["products_shown"] == 6
    assert "There are no product facts yet" in found["summary_report"]["notes"]
    assert len(read_page(lake.get(places.REPORT)).rows["ids"]) == 6
    assert has_current_report(lake, small.pipeline.settings.report_products)


def test_the_report_has_at_most_as_many_products_as_are_set(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    complete(lake, require_plan(lake))
    small.with_settings(report_products=2).execute("merge")
    assert len(read_page(lake.get(places.REPORT)).rows["ids"]) == 2


def test_a_report_needs_a_merged_table(small: SmallPipeline) -> None:
    run = small.execute("merge")
    assert "checkpoints cannot be merged" in failure(run)
    assert small.pipeline.lake.head(places.REPORT) is None


def test_refresh_writes_the_report_after_table_and_facts() -> None:
    key = dg.AssetKey("summary_report")
    for job in ("refresh", "merge"):
        assert key in defs.resolve_job_def(job).asset_layer.selected_asset_keys
