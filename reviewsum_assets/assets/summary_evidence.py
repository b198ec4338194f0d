"""``summary_evidence``: the reviews behind each sentence of each summary, and their check."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from reviewsum_assets.assets import display
from reviewsum_assets.assets.checks import Rule
from reviewsum_assets.assets.merged_summaries import merged_summaries
from reviewsum_assets.assets.pipeline import Pipeline, StageProgress
from reviewsum_assets.assets.product_facts import product_facts
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.merge import current_merged_table
from reviewsum_assets.checkpoints.quality import Finding
from reviewsum_assets.errors import CheckpointError, PlanError
from reviewsum_assets.reviews.derived_table import TableRecord
from reviewsum_assets.reviews.evidence_table import (
    SUMMARY_EVIDENCE,
    unsupported_sentences,
    write_evidence,
)
from reviewsum_assets.reviews.grouped import current_grouped_reviews
from reviewsum_assets.storage import places

_PREVIEW_SENTENCES = 8
_PREVIEW_CHARS = 160

_SUPPORTED = Rule(
    dg.AssetKey("summary_evidence"),
    "sentences_have_support",
    "Few sentences of summaries have no review that says the same: at most "
    "`max_unsupported_share` of those that claim something about the product. Words are compared, "
    "so that a paraphrase can be counted wrongly.",
    "sentences have no review that says the same",
    "Read `reviewsum explain PRODUCT_ID` or report.html for some of these; if sentences are "
    "invented, choose another model",
    detail="sentence",
)


@dg.asset(
    deps=[merged_summaries, product_facts],
    group_name="summaries",
    kinds={"polars", "parquet"},
    owners=["team:reviewsum"],
    description=(
        "For each sentence of each summary the number of reviews that support it and that speak "
        "against it, of all reviews of the product, and the three best quotes, without a model. "
        "Only products whose summary or reviews changed are computed again. No summary depends on "
        "it."
    ),
)
@fails_plainly
def summary_evidence(
    context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.MaterializeResult[None]:
    """Write the evidence for the current merged table, unless it is there."""
    lake = pipeline.lake
    merged, grouped = current_merged_table(lake), current_grouped_reviews(lake)
    if merged is None:
        raise CheckpointError("there is no merged table yet: materialize merged_summaries first")
    if grouped is None:
        raise PlanError("there are no grouped reviews yet: materialize grouped_reviews first")

    def report(done: int) -> None:
        pipeline.report(StageProgress("summary_evidence", done, merged.rows, "products"))

    evidence, is_reused = write_evidence(lake, grouped, merged.parquet_sha256, report)
    if is_reused:
        context.log.info("summaries and reviews have not changed: nothing was computed")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(evidence.sha256),
        metadata=_metadata(pipeline, evidence, computed=0 if is_reused else evidence.computed),
    )


def _metadata(pipeline: Pipeline, evidence: TableRecord, *, computed: int) -> dict[str, Any]:
    table = SUMMARY_EVIDENCE.scan(pipeline.lake)
    (supported, unsupported) = (
        table.select(supported=pl.col("supported").sum(), unsupported=(~pl.col("supported")).sum())
        .collect(engine="streaming")
        .row(0)
    )
    columns = ["product_id", "support", "against", "sentence"]
    first = table.select(columns).head(_PREVIEW_SENTENCES).collect()
    return {
        "sentences_supported": supported,
        "sentences_unsupported": unsupported,
        "supported_share": supported / max(1, supported + unsupported),
        "products_computed": computed,
        "products_unchanged": evidence.products - computed,
        "preview": display.preview(
            columns,
            (
                (*figures, display.shortened(sentence, _PREVIEW_CHARS))
                for *figures, sentence in first.iter_rows()
            ),
        ),
        "dagster/row_count": evidence.rows,
        "dagster/uri": pipeline.lake.uri_of(places.SUMMARY_EVIDENCE),
    }


@dg.multi_asset_check(specs=[_SUPPORTED.spec], name="evidence_check")
@fails_plainly
def evidence_check(pipeline: dg.ResourceParam[Pipeline]) -> Iterator[dg.AssetCheckResult]:
    """Count the sentences without support."""
    found, claiming = unsupported_sentences(pipeline.lake)
    finding = Finding().add(found, pl.col("sentence"))
    yield _SUPPORTED.judge(finding, claiming, allowed=pipeline.settings.max_unsupported_share)
