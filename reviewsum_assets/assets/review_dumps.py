"""``review_dumps``: the raw files, which are observed and never written."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.reviews.dumps import Dump, find_dumps, listing_fingerprint


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
        data_version=dg.DataVersion(listing_fingerprint(dumps)), metadata=_metadata(dumps)
    )


def observation(pipeline: Pipeline) -> dg.AssetObservation:
    """Observation of the dumps, for a run that has read them."""
    dumps = find_dumps(pipeline.lake, pipeline.settings)
    return dg.AssetObservation(
        review_dumps.key,
        metadata=_metadata(dumps),
        tags={"dagster/data_version": listing_fingerprint(dumps)},
    )


def _metadata(dumps: Sequence[Dump]) -> dict[str, Any]:
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
