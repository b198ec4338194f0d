"""``review_dumps``: the raw files, observed; they come from outside and are never written."""

import dagster as dg

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.reviews.dumps import find_dumps, listing_fingerprint


@dg.observable_source_asset(
    group_name="reviews",
    description=(
        "The input: files of raw reviews, one review a row, under `review_dumps/` of the lake. "
        "Amazon Reviews 2014, 2018 and 2023 JSON lines, AWS review TSV or Parquet, or CSV, plain "
        "or gzip; a file's content tells its format. They come from outside: **observe** this "
        "asset to record which files lie there now. A new data version means that "
        "`grouped_reviews` is out of date."
    ),
    tags={"domain": "reviews"},
)
@fails_plainly
def review_dumps(
    context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.DataVersion:
    """List the dumps; their names, sizes and tags make the data version."""
    dumps = find_dumps(pipeline.lake, pipeline.settings)
    for dump in dumps:
        context.log.info(
            f"{dump.name}: {dump.size:,} bytes, changed {dump.last_modified:%Y-%m-%d %H:%M} UTC"
        )
    return dg.DataVersion(listing_fingerprint(dumps))
