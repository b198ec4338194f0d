"""``review_dumps``, the raw files, and ``grouped_reviews``, one row per product from all dumps."""

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.pipeline import Pipeline, StageProgress
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.reviews.dumps import (
    Dump,
    find_dumps,
    has_dumps,
    listing_fingerprint,
    put_sample,
)
from reviewsum_assets.reviews.grouped import GroupedReviews, scan_grouped
from reviewsum_assets.reviews.grouping import Progress, group_reviews
from reviewsum_assets.storage import places

_LOG_EVERY_SECONDS = 10.0
_LISTED_DUMPS = 10
_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 160


@dg.observable_source_asset(
    group_name="summaries",
    description=(
        "The input: files of raw reviews, one review per row, under `review_dumps/` of the lake. "
        "Amazon Reviews 2014, 2018 and 2023 JSON lines, AWS review TSV or Parquet, or CSV, plain "
        "or gzip; the format is detected from the content. Each ingest observes the files that it "
        "read. **Observe** this asset to record the present files: a new data version means that "
        "`grouped_reviews` is out of date; launch the job `refresh`."
    ),
)
@fails_plainly
def review_dumps(pipeline: dg.ResourceParam[Pipeline]) -> dg.ObserveResult:
    """List the dumps; their names, sizes and tags make the data version."""
    dumps = find_dumps(pipeline.lake, pipeline.settings)
    return dg.ObserveResult(
        data_version=dg.DataVersion(listing_fingerprint(dumps)), metadata=_dumps_metadata(dumps)
    )


def _observation(pipeline: Pipeline) -> dg.AssetObservation:
    """Observation of the dumps, for a run that has read them."""
    dumps = find_dumps(pipeline.lake, pipeline.settings)
    return dg.AssetObservation(
        review_dumps.key,
        metadata=_dumps_metadata(dumps),
        tags={"dagster/data_version": listing_fingerprint(dumps)},
    )


def _dumps_metadata(dumps: Sequence[Dump]) -> dict[str, Any]:
    return {
        "files": len(dumps),
        "megabytes": round(sum(dump.size for dump in dumps) / 1e6, 3),
        "newest": f"{max(dump.last_modified for dump in dumps):%Y-%m-%d %H:%M} UTC",
        "dumps": display.table(
            ["dump", "bytes", "modified (UTC)"],
            (
                (dump.name, f"{dump.size:,}", f"{dump.last_modified:%Y-%m-%d %H:%M}")
                for dump in dumps
            ),
        ),
    }


@dg.asset(
    deps=[review_dumps],
    group_name="summaries",
    kinds={"polars", "parquet"},
    owners=["team:reviewsum"],
    description=(
        "One row per product, from all reviews of all dumps: cleaned, without duplicates, short "
        "reviews and products with few reviews, the most helpful reviews first. Rows that cannot "
        "be read are in quarantine, with file, line and reason. Materialize it when dumps were "
        "added or changed; otherwise nothing is read again."
    ),
)
@fails_plainly
def grouped_reviews(
    context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.MaterializeResult[None]:
    """Read, clean and group all dumps."""
    seed_empty_lake(context, pipeline)
    report = _Report(context, pipeline)
    record, reused = group_reviews(pipeline.lake, pipeline.settings, report)
    if reused:
        context.log.info("the dumps have not changed: nothing was read")
    for dump in record.dumps[:_LISTED_DUMPS]:
        is_odd = dump.recoded or dump.skipped
        pipeline.say(context.log.warning if is_odd else context.log.info, dump.sentence())
    if len(record.dumps) > _LISTED_DUMPS:
        more = len(record.dumps) - _LISTED_DUMPS
        pipeline.say(context.log.info, f"{more:,} more dumps: the asset's page has the table")
    if pipeline.settings.dumps or has_dumps(pipeline.lake):  # else an earlier call named them
        context.log_event(_observation(pipeline))
    if record.counts.quarantined:
        context.log.warning(
            f"{record.counts.quarantined:,} rows could not be read and are in quarantine: "
            f"{pipeline.lake.uri_of(record.quarantine_key or '')}"
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata=_metadata(pipeline, record, reused=reused),
    )


def seed_empty_lake(context: dg.AssetExecutionContext, pipeline: Pipeline) -> None:
    """Put the sample reviews on an empty lake, except where a mistyped lake would cost money."""
    if pipeline.settings.compute == "local" and put_sample(pipeline.lake, pipeline.settings):
        context.log.warning(
            f"{pipeline.lake.uri} is empty: using the sample reviews. For your own, put dumps "
            f"under {pipeline.lake.uri_of(places.REVIEW_DUMPS)}/ and remove the sample"
        )


class _Report:
    """Passes on all reading progress, and logs it every few seconds."""

    def __init__(self, context: dg.AssetExecutionContext, pipeline: Pipeline) -> None:
        self._context = context
        self._pipeline = pipeline
        self._logged = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        done, total = progress.bytes_done, progress.bytes_total
        detail = f"{progress.rows:,} reviews"
        self._pipeline.report(StageProgress("grouped_reviews", done, total, "bytes", detail))
        if time.monotonic() - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            self._context.log.info(f"{progress.file}: {detail}, {done / max(1, total):.0%} read")


def _metadata(pipeline: Pipeline, record: GroupedReviews, *, reused: bool) -> dict[str, Any]:
    counts = record.counts
    lake = pipeline.lake
    # Share of the values that could be read.
    fields = tuple(dict.fromkeys(name for dump in record.dumps for name in dump.fields))
    metadata: dict[str, Any] = {
        "products": counts.products,
        "reviews_read": counts.reviews_read,
        "reviews_kept": counts.reviews_kept,
        "quarantined_rows": counts.quarantined,
        "duplicate_reviews": counts.duplicates,
        "preview": _preview(pipeline, record),
        "reviews_too_short": counts.too_short,
        "reviews_not_verified": counts.not_verified,
        "reviews_too_old": counts.too_old,
        "products_with_too_few_reviews": counts.products_too_small,
        "seconds": round(record.seconds, 2),
        "reused": reused,
        "dumps": display.table(
            ["rows", "quarantined", *fields, "as Windows-1252", "dump", "format"],
            (
                (
                    *(f"{dump.rows:,}", f"{dump.quarantined:,}"),
                    *(_percent(dump.shares.get(name)) for name in fields),
                    *(f"{dump.recoded:,}", dump.label, dump.format),
                )
                for dump in record.dumps
            ),
        ),
        "dagster/row_count": counts.products,
        "dagster/uri": lake.uri_of(record.tables[0]),
    }
    if record.quarantine_key is not None:
        metadata["quarantine"] = dg.MetadataValue.path(lake.uri_of(record.quarantine_key))
    return metadata


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _preview(pipeline: Pipeline, record: GroupedReviews) -> dg.MarkdownMetadataValue:
    """The most reviewed products."""
    frame = (
        scan_grouped(pipeline.lake, record)
        .select("product_id", "review_count", "avg_rating", "all_reviews")
        .top_k(_PREVIEW_PRODUCTS, by="review_count")
        .collect()
    )
    return display.preview(
        ["product_id", "review_count", "avg_rating", "all_reviews"],
        (
            (
                product,
                count,
                "" if rating is None else f"{rating:.1f}",
                display.shortened(text, _PREVIEW_CHARS),
            )
            for product, count, rating, text in frame.iter_rows()
        ),
    )
