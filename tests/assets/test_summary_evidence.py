from __future__ import annotations

import dagster as dg

from reviewsum_assets.assets.product_facts import product_facts
from reviewsum_assets.assets.summary_evidence import evidence_check, summary_evidence
from reviewsum_assets.definitions import defs
from reviewsum_assets.storage import places
from tests.support.pipeline import SmallPipeline, failure


def materialize(small: SmallPipeline) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [product_facts, summary_evidence, evidence_check],
        instance=small.instance,
        resources={"pipeline": small.pipeline},
        raise_on_error=False,
    )


def test_evidence_has_counts_preview_and_a_check(small: SmallPipeline) -> None:
    assert small.refresh().success
    small.pipeline.lake.delete(places.SUMMARY_EVIDENCE)
    first, second = (materialize(small) for _ in range(2))
    metadata = small.materializations(first)["summary_evidence"]
    assert metadata["dagster/uri"].endswith(places.SUMMARY_EVIDENCE)
    assert metadata["dagster/row_count"] >= 6
    assert 0 <= metadata["supported_share"] <= 1
    assert "| P000 |" in metadata["preview"]
    again = small.materializations(second)["summary_evidence"]
    assert (again["products_computed"], again["products_unchanged"]) == (0, 6)
    (result,) = first.get_asset_check_evaluations()
    assert result.check_name == "sentences_have_support"
    counted = metadata["sentences_supported"] + metadata["sentences_unsupported"]
    assert result.metadata["of"].value == counted


def test_evidence_needs_a_merged_table(small: SmallPipeline) -> None:
    small.pipeline.lake.delete(places.MERGED_MANIFEST)
    assert "there is no merged table yet" in failure(materialize(small))


def test_refresh_makes_the_evidence_and_only_the_report_depends_on_it() -> None:
    key = dg.AssetKey("summary_evidence")
    assert key in defs.resolve_job_def("refresh").asset_layer.selected_asset_keys
    assert defs.resolve_asset_graph().get(key).child_keys == {dg.AssetKey("summary_report")}
