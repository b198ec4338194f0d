from __future__ import annotations

import dagster as dg

from reviewsum_assets.assets.summary_report import summary_report
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.definitions import defs
from reviewsum_assets.report.writer import has_current_report
from reviewsum_assets.storage import places
from tests.report.support import read_page
from tests.support.checkpoints import complete
from tests.support.pipeline import SmallPipeline, failure


def materialize(small: SmallPipeline) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [summary_report],
        instance=small.instance,
        resources={"pipeline": small.pipeline},
        raise_on_error=False,
    )


def test_the_report_and_the_merged_table_name_its_page(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    complete(lake, require_plan(lake))
    merged = small.materializations(small.execute("merge"))["merged_summaries"]
    found = small.materializations(materialize(small))["summary_report"]
    assert merged["report"] == found["report"] == lake.uri_of(places.REPORT)
    assert found["products"] == found["products_shown"] == 6
    assert "There are no product facts yet" in found["notes"]
    assert len(read_page(lake.get(places.REPORT)).rows["ids"]) == 6
    assert has_current_report(lake, small.pipeline.settings.report_products)
    materialize(small.with_settings(report_products=2))
    assert len(read_page(lake.get(places.REPORT)).rows["ids"]) == 2


def test_a_report_needs_a_merged_table(small: SmallPipeline) -> None:
    assert "merged_summaries.parquet is missing" in failure(materialize(small))
    assert small.pipeline.lake.head(places.REPORT) is None


def test_refresh_writes_the_report() -> None:
    key = dg.AssetKey("summary_report")
    assert key in defs.resolve_job_def("refresh").asset_layer.selected_asset_keys
