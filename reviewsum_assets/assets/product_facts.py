"""``product_facts``: stars, days and highlights of each product, from its reviews alone."""

from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.grouped_reviews import grouped_reviews
from reviewsum_assets.assets.pipeline import Pipeline, StageProgress
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.errors import PlanError
from reviewsum_assets.reviews.derived_table import TableRecord
from reviewsum_assets.reviews.facts import PRODUCT_FACTS, write_facts
from reviewsum_assets.reviews.grouped import current_grouped_reviews
from reviewsum_assets.storage import places

_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 160


@dg.asset(
    deps=[grouped_reviews],
    group_name="summaries",
    kinds={"polars", "parquet"},
    owners=["team:reviewsum"],
    description=(
        "Facts of each product from all of its reviews, without a model: stars, days, verified "
        "purchases, and highlights, the sentences of its customers that most of its reviews "
        "support. Only products whose reviews changed are computed again. No summary depends on "
        "it."
    ),
)
@fails_plainly
def product_facts(
    context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.MaterializeResult[None]:
    """Write the facts of the current grouped reviews, unless they are there."""
    grouped = current_grouped_reviews(pipeline.lake)
    if grouped is None:
        raise PlanError("there are no grouped reviews yet: materialize grouped_reviews first")

    def report(done: int) -> None:
        products = grouped.counts.products
        pipeline.report(StageProgress("product_facts", done, products, "products"))

    facts, is_reused = write_facts(pipeline.lake, grouped, report)
    if is_reused:
        context.log.info("the grouped reviews have not changed: nothing was computed")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(facts.sha256),
        metadata=_metadata(pipeline, facts, computed=0 if is_reused else facts.computed),
    )


def _metadata(pipeline: Pipeline, facts: TableRecord, *, computed: int) -> dict[str, Any]:
    return {
        "products_computed": computed,
        "products_unchanged": facts.rows - computed,
        "preview": _preview(pipeline),
        "dagster/row_count": facts.rows,
        "dagster/uri": pipeline.lake.uri_of(places.PRODUCT_FACTS),
    }


def _preview(pipeline: Pipeline) -> dg.MarkdownMetadataValue:
    columns = ["product_id", "review_count", "mean_stars", "critical_share", "highlights_text"]
    first = PRODUCT_FACTS.scan(pipeline.lake).select(columns).head(_PREVIEW_PRODUCTS).collect()
    return display.preview(
        columns,
        (
            (
                product,
                count,
                "" if stars is None else f"{stars:.1f}",
                "" if critical is None else f"{critical:.0%}",
                display.shortened(highlights, _PREVIEW_CHARS),
            )
            for product, count, stars, critical, highlights in first.iter_rows()
        ),
    )
