"""``summary_report``: the merged table as a page to read, with facts and evidence."""

import dagster as dg

from reviewsum_assets.assets.merged_summaries import merged_summaries
from reviewsum_assets.assets.pipeline import Pipeline, StageProgress
from reviewsum_assets.assets.product_facts import product_facts
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.assets.summary_evidence import summary_evidence
from reviewsum_assets.report.writer import write_report
from reviewsum_assets.storage import places


@dg.asset(
    deps=[merged_summaries, product_facts, summary_evidence],
    group_name="summaries",
    kinds={"html"},
    owners=["team:reviewsum"],
    description=(
        "The result as one HTML file, `summarized_dataset/report.html`: every summary with its "
        "stars and highlights, and for each sentence the reviews that support it. It needs no "
        "server and no network: open it in a browser, or send it to a colleague."
    ),
)
@fails_plainly
def summary_report(
    context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.MaterializeResult[None]:
    """Write the page of the present tables."""
    lake = pipeline.lake
    report = write_report(
        lake,
        most=pipeline.settings.report_products,
        on_progress=lambda done, total: pipeline.report(
            StageProgress("report", done, total, "products")
        ),
    )
    for note in report.notes:
        context.log.info(note)
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.path(lake.uri_of(places.REPORT)),
            "products_shown": report.shown,
            "products": report.products,
            "bytes": report.bytes,
            **({"notes": "\n".join(report.notes)} if report.notes else {}),
            "dagster/uri": lake.uri_of(places.REPORT),
        },
    )
