"""What the page of ``merged_summaries`` shows of the table: totals, charts, a preview."""

from __future__ import annotations

from typing import Any

import dagster as dg

from reviewsum_assets import places
from reviewsum_assets.assets import markdown
from reviewsum_assets.assets.charts import Bar, bar_chart
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.manifests import read_manifests
from reviewsum_assets.checkpoints.merge import MERGED_SCHEMA, MergedTable, merged_slices
from reviewsum_assets.checkpoints.merged_statistics import (
    MergedStatistics,
    ReadClass,
    ReviewClass,
    merged_statistics,
)
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.compute.checkpoint_cost import checkpoint_usd
from reviewsum_assets.reviews.grouping import current_grouped_reviews, scan_grouped

_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 240


def merged_metadata(pipeline: Pipeline, plan: Plan, merged: MergedTable) -> dict[str, Any]:
    """Metadata of the merged table's materialization; reads the table and every manifest."""
    lake = pipeline.lake
    grouped = current_grouped_reviews(lake)
    statistics = merged_statistics(lake, None if grouped is None else scan_grouped(lake, grouped))
    return {
        **record_metadata(pipeline, merged),
        **_coverage(statistics),
        **_reads(statistics),
        **_totals(pipeline, plan),
        "words_per_summary": round(statistics.words / max(1, merged.rows), 1),
        "length_chart": _length_chart(statistics),
    }


def record_metadata(pipeline: Pipeline, merged: MergedTable) -> dict[str, Any]:
    """What the record of the merge and the table's first rows say."""
    lake = pipeline.lake
    return {
        "dagster/row_count": merged.rows,
        "dagster/uri": lake.uri_of(places.MERGED_CSV),
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn("product_id", "string", "the product, once"),
                dg.TableColumn("abstracted_summary", "string", "what its reviews say"),
                dg.TableColumn("review_count", "int", "reviews in the current dumps"),
            ]
        ),
        "preview": _preview(pipeline),
        "parquet": dg.MetadataValue.path(lake.uri_of(places.MERGED_PARQUET)),
        "products_selected": merged.selected,
        "products_quarantined": merged.quarantined,
        "completeness": merged.completeness,
        "incomplete_checkpoints": len(merged.incomplete_checkpoints),
    }


def _coverage(statistics: MergedStatistics) -> dict[str, Any]:
    share = statistics.review_coverage
    covered = {"reviews_covered": statistics.reviews_covered}
    if share is None:
        return covered
    return {
        **covered,
        "review_coverage": round(share, 4),
        "coverage_chart": bar_chart(
            "reviews of a product",
            "those of products with a summary",
            [
                Bar(_class_label(one), one.reviews_covered, _class_text(one), one.reviews)
                for one in statistics.classes
            ],
        ),
    }


def _reads(statistics: MergedStatistics) -> dict[str, Any]:
    """How much of the reviews the model read, of the products for which that is known."""
    if not statistics.reads:
        return {}
    reviews, read, cut = (
        sum(getattr(one, name) for one in statistics.reads) for name in ("reviews", "read", "cut")
    )
    return {
        "reviews_read": read,
        "reviews_cut": cut,
        "reviews_left_out": max(0, reviews - read - cut),
        "reviews_read_share": round(read / max(1, reviews), 4),
        "reads_chart": bar_chart(
            "reviews a product",
            "reviews that the model read",
            [
                Bar(
                    _class_label(one),
                    one.read,
                    f"{one.read / max(1, one.reviews):.0%} of {one.reviews:,}",
                    one.reviews,
                )
                for one in statistics.reads
            ],
        ),
    }


def _class_label(one: ReviewClass | ReadClass) -> str:
    return f"{one.fewest:,} or more" if one.most is None else f"{one.fewest:,} to {one.most:,}"


def _class_text(one: ReviewClass) -> str:
    return f"{one.reviews_covered / max(1, one.reviews):.0%} of {one.reviews:,}"


def _length_chart(statistics: MergedStatistics) -> dg.MarkdownMetadataValue:
    return bar_chart(
        "words",
        "summaries",
        [
            Bar(f"{one.first} to {one.last}", one.summaries, f"{one.summaries:,}")
            for one in statistics.lengths
        ],
    )


def _totals(pipeline: Pipeline, plan: Plan) -> dict[str, float]:
    """What all checkpoints of the plan took together, whichever jobs computed them."""
    sums: dict[str, float] = dict.fromkeys(
        ("chunks", "chunks_reused", "tokens_in", "tokens_out", "worker_seconds", "usd"), 0
    )
    for manifest in read_manifests(pipeline.lake, plan):
        for name in ("chunks", "chunks_reused", "tokens_in", "tokens_out", "worker_seconds"):
            sums[name] += getattr(manifest, name)
        sums["usd"] += checkpoint_usd(manifest, pipeline.settings.usd_per_hour) or 0.0
    seconds, usd = sums.pop("worker_seconds"), sums.pop("usd")
    return {
        **sums,
        "compression_ratio": round(sums["tokens_out"] / max(1, sums["tokens_in"]), 4),
        "worker_hours": round(seconds / 3600, 3),
        **({"usd": round(usd, 2)} if usd else {}),
    }


def _preview(pipeline: Pipeline) -> dg.MarkdownMetadataValue:
    first = next(merged_slices(pipeline.lake, _PREVIEW_PRODUCTS)).select(MERGED_SCHEMA.names())
    return markdown.preview(
        ["product_id", "summary", "reviews"],
        (
            (product_id, markdown.shortened(summary, _PREVIEW_CHARS), count)
            for product_id, summary, count in first.iter_rows()
        ),
    )
