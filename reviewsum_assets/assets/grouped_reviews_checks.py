"""Checks of ``grouped_reviews``: whether a plan may be made from it."""

from collections.abc import Iterator
from itertools import islice

import dagster as dg

from reviewsum_assets.assets.check_results import Rule, judged
from reviewsum_assets.assets.grouped_reviews import grouped_reviews
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.quality import MOST_EXAMPLES, Finding
from reviewsum_assets.errors import DumpError
from reviewsum_assets.reviews.grouping import (
    GroupedReviews,
    current_grouped_reviews,
    repeated_products,
    scan_grouped,
)
from reviewsum_assets.reviews.rows import QuarantinedRow
from reviewsum_assets.storage.lake import Lake

_ONE_ROW = dg.AssetCheckSpec(
    "one_row_a_product",
    asset=grouped_reviews,
    blocking=True,
    description="Every row has a product id, and no two have the same. No plan is made otherwise.",
)
_ROWS_READ = dg.AssetCheckSpec(
    "rows_are_readable",
    asset=grouped_reviews,
    description="Few rows of the dumps are in quarantine: at most `max_quarantined_share`.",
)


_DUMPS_WHOLE = dg.AssetCheckSpec(
    "dumps_are_whole",
    asset=grouped_reviews,
    description="No dump breaks off: how many reviews a damaged file has lost, nobody knows.",
)


@dg.multi_asset_check(
    specs=[_ONE_ROW, _ROWS_READ, _DUMPS_WHOLE], name="grouped_reviews_checks", can_subset=True
)
@fails_plainly
def grouped_reviews_checks(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> Iterator[dg.AssetCheckResult]:
    """Look at the ids of the grouped table and at the record of what was read."""
    record = current_grouped_reviews(pipeline.lake)
    if record is None:
        raise DumpError("there are no grouped reviews to check: materialize grouped_reviews first")
    if _ONE_ROW.key in context.selected_asset_check_keys:
        yield _one_row_a_product(pipeline.lake, record)
    if _ROWS_READ.key in context.selected_asset_check_keys:
        yield _rows_could_be_read(pipeline, record)
    if _DUMPS_WHOLE.key in context.selected_asset_check_keys:
        yield _dumps_are_whole(record)


def _one_row_a_product(lake: Lake, record: GroupedReviews) -> dg.AssetCheckResult:
    repeated = repeated_products(scan_grouped(lake, record))
    examples = [(str(product), f"{times} rows") for product, times in repeated.iter_rows()]
    rule = Rule(
        "products are in several rows, or have no id",
        "Remove the repeated rows from the dump and materialize grouped_reviews again",
    )
    finding = Finding(repeated.height, examples[:MOST_EXAMPLES])
    return judged(_ONE_ROW, rule, finding, record.counts.products)


def _rows_could_be_read(pipeline: Pipeline, record: GroupedReviews) -> dg.AssetCheckResult:
    where = pipeline.lake.uri_of(record.quarantine_key) if record.quarantine_key else ""
    rule = Rule(
        "rows of the dumps could not be read",
        f"Look at the reasons in {where}; correct the dump or get it anew, or raise "
        "max_quarantined_share",
        allowed=pipeline.settings.max_quarantined_share,
        severity=dg.AssetCheckSeverity.WARN,
        detail="reason",
        subject="row",
    )
    counts = record.counts
    finding = Finding(counts.quarantined, _first_rows(pipeline.lake, record.quarantine_key))
    return judged(_ROWS_READ, rule, finding, counts.reviews_read + counts.quarantined)


def _dumps_are_whole(record: GroupedReviews) -> dg.AssetCheckResult:
    damaged = [(dump.name, dump.damage) for dump in record.dumps if dump.damage]
    rule = Rule(
        "dumps are damaged, what comes before the damage is read, the rest is lost",
        "Get them anew and put them in the place of the damaged ones",
        severity=dg.AssetCheckSeverity.WARN,
        detail="where, and why",
        subject="dump",
    )
    finding = Finding(len(damaged), damaged[:MOST_EXAMPLES])
    return judged(_DUMPS_WHOLE, rule, finding, len(record.dumps))


def _first_rows(lake: Lake, key: str | None) -> list[tuple[str, str]]:
    """File and line of the first rows in quarantine, and why they are there."""
    if key is None:
        return []
    with lake.open_reader(key) as file:
        rows = [QuarantinedRow.model_validate_json(line) for line in islice(file, MOST_EXAMPLES)]
    return [(f"{row.file}, line {row.line}", row.reason) for row in rows]
