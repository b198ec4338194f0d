"""``merged_summaries``: the merged table, with totals, tables of shares and a preview."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from reviewsum_assets.assets import display
from reviewsum_assets.assets.checkpoint_plan import checkpoint_plan, plan_of_run
from reviewsum_assets.assets.dagster_home import GPU_POOL
from reviewsum_assets.assets.partitions import CHUNK_SUMMARIES, REFRESH
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.quality_checks import require_agreeing_canaries
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.assets.summarize_run import summarize_pending
from reviewsum_assets.checkpoints.merge import (
    MERGED_SCHEMA,
    MergedStatistics,
    MergedTable,
    ReviewClass,
    merge_checkpoints,
    merged_slices,
    merged_statistics,
)
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.compute.instances import checkpoint_usd
from reviewsum_assets.reviews.grouped import current_grouped_reviews, scan_grouped
from reviewsum_assets.storage import places

_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 240


def _metadata(pipeline: Pipeline, plan: Plan, merged: MergedTable) -> dict[str, Any]:
    """Metadata of the merged table; reads the table and every manifest."""
    lake = pipeline.lake
    grouped = current_grouped_reviews(lake)
    if grouped is not None and grouped.version != plan.grouped_version:
        grouped = None  # of another run's dumps
    statistics = merged_statistics(lake, None if grouped is None else scan_grouped(lake, grouped))
    return {
        "rows": merged.rows,
        "completeness": merged.completeness,
        "review_coverage": _share(statistics.review_coverage),
        "words_per_summary": round(statistics.words / max(1, merged.rows), 1),
        **_totals(pipeline, plan),
        **record_metadata(pipeline, merged),
        **_coverage(statistics),
        **_reads(statistics),
        "lengths": display.table(
            ["words", "summaries"],
            ((f"{first} to {last}", f"{count:,}") for first, last, count in statistics.lengths),
        ),
    }


def record_metadata(pipeline: Pipeline, merged: MergedTable) -> dict[str, Any]:
    """Metadata of the merged table from its record and its first rows."""
    lake = pipeline.lake
    return {
        "rows": merged.rows,
        "completeness": merged.completeness,
        "preview": _preview(pipeline),
        "report": dg.MetadataValue.path(lake.uri_of(places.REPORT)),
        "products_selected": merged.selected,
        "products_quarantined": merged.quarantined,
        "incomplete_checkpoints": len(merged.incomplete_checkpoints),
        "parquet": dg.MetadataValue.path(lake.uri_of(places.MERGED_PARQUET)),
        "dagster/row_count": merged.rows,
        "dagster/uri": lake.uri_of(places.MERGED_CSV),
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn("product_id", "string", "the product, once"),
                dg.TableColumn("abstracted_summary", "string", "the summary of its reviews"),
                dg.TableColumn("review_count", "int", "reviews in the current dumps"),
            ]
        ),
    }


def _coverage(statistics: MergedStatistics) -> dict[str, Any]:
    """Number of reviews whose product has a summary, where the reviews are known."""
    covered = {"reviews_covered": statistics.reviews_covered}
    if statistics.review_coverage is None:
        return covered
    return {**covered, "coverage": _shares("of products with a summary", statistics.classes)}


def _reads(statistics: MergedStatistics) -> dict[str, Any]:
    """Number of reviews that the model read, of products for which it is known."""
    if not statistics.reads:
        return {}
    reviews = sum(one.reviews for one in statistics.reads)
    read = sum(one.part for one in statistics.reads)
    cut = statistics.reviews_cut
    return {
        "reviews_read": read,
        "reviews_cut": cut,
        "reviews_left_out": max(0, reviews - read - cut),
        "reviews_read_share": _share(read / max(1, reviews)),
        "reads": _shares("read by the model", statistics.reads),
    }


def _shares(heading: str, rows: Sequence[ReviewClass]) -> dg.MarkdownMetadataValue:
    """Table of the share of reviews, by the number of reviews per product."""
    lines = []
    for one in rows:
        most = " or more" if one.most is None else f" to {one.most:,}"
        share = f"{one.part / max(1, one.reviews):.0%}"
        lines.append((f"{one.fewest:,}{most}", f"{one.reviews:,}", share))
    return display.table(["reviews per product", "reviews", heading], lines)


def _share(share: float | None) -> float | str:
    return "unknown" if share is None else round(share, 4)


def _totals(pipeline: Pipeline, plan: Plan) -> dict[str, float]:
    """Sums over all checkpoints of the plan, from any job."""
    sums: dict[str, float] = dict.fromkeys(
        ("chunks", "chunks_reused", "tokens_in", "tokens_out", "worker_seconds", "usd"), 0
    )
    for state in pipeline.state.checkpoints(plan):
        for name, count in state.totals._asdict().items():
            sums[name] += count
        if (manifest := state.manifest) is not None:
            sums["worker_seconds"] += manifest.worker_seconds
            sums["usd"] += checkpoint_usd(manifest, pipeline.settings.usd_per_hour) or 0.0
    seconds, usd = sums.pop("worker_seconds"), sums.pop("usd")
    return {
        **({"usd": round(usd, 2)} if usd else {}),
        "worker_hours": round(seconds / 3600, 3),
        **sums,
        "compression_ratio": round(sums["tokens_out"] / max(1, sums["tokens_in"]), 4),
    }


def _preview(pipeline: Pipeline) -> dg.MarkdownMetadataValue:
    first = next(merged_slices(pipeline.lake, _PREVIEW_PRODUCTS)).select(MERGED_SCHEMA.names())
    return display.preview(
        MERGED_SCHEMA.names(),
        (
            (product_id, display.shortened(summary, _PREVIEW_CHARS), count)
            for product_id, summary, count in first.iter_rows()
        ),
    )


# A dependency on `chunk_summaries` would make Dagster ask for a confirmation before each refresh,
# since that job omits an asset that was never materialized and that another one needs.
checkpoint_files = dg.AssetSpec(
    "checkpoint_files",
    deps=[CHUNK_SUMMARIES],
    group_name="summaries",
    kinds={"csv"},
    owners=["team:reviewsum"],
    description=(
        "The checkpoints on the lake, from any run, host or Dagster instance: "
        "`checkpoint_files/checkpoint_file_N.csv`, each with its manifest. The merge reads them. "
        "`chunk_summaries` writes them; they cannot be materialized here."
    ),
)


class MergeConfig(dg.Config):
    """Options of one run."""

    allow_incomplete: bool = Field(
        default=False,
        description="Merge the checkpoints that are valid and leave out the others.",
    )


@dg.asset(
    deps=[checkpoint_plan, checkpoint_files],
    group_name="summaries",
    kinds={"csv", "parquet"},
    owners=["team:reviewsum"],
    # In the job refresh it starts Processing jobs.
    pool=GPU_POOL,
    description=(
        "The result: one row per product with its summary, from the checkpoint that the plan "
        "names, as CSV and Parquet under `summarized_dataset/`. To bring it up to date, launch the "
        "job **refresh**. *Materialize all* in the graph fixes its partitions before the plan adds "
        "new ones: it fails, naming them, while checkpoints are missing or invalid, unless the "
        "run's config sets `allow_incomplete`. The checks report whether the table is complete, "
        "up to date and of good quality."
    ),
)
@fails_plainly
def merged_summaries(
    context: dg.AssetExecutionContext,
    config: MergeConfig,
    pipeline: dg.ResourceParam[Pipeline],
) -> dg.MaterializeResult[None]:
    """Merge all checkpoints of the current plan; refresh first computes the pending ones."""
    plan = plan_of_run(context.instance, context.run, pipeline.lake)
    is_refresh = context.run.job_name == REFRESH
    if is_refresh:
        summarize_pending(context, pipeline, plan)
        plan = plan_of_run(context.instance, context.run, pipeline.lake, plan)
    require_agreeing_canaries(context, pipeline, plan, is_logged=is_refresh)
    merged = merge_checkpoints(
        pipeline.lake,
        plan,
        pipeline.settings.merge_settings(),
        allow_incomplete=config.allow_incomplete,
    )
    if merged.incomplete_checkpoints:
        context.log.warning(f"merged without {len(merged.incomplete_checkpoints)} checkpoints")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(merged.csv_sha256),
        metadata=_metadata(pipeline, plan, merged),
    )
