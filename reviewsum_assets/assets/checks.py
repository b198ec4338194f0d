"""Asset checks of grouped reviews and of the merged table, and the form of all checks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.checkpoint_plan import plan_of_run
from reviewsum_assets.assets.partitions import MERGED_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.merge import MergedTable, current_merged_table
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.checkpoints.quality import MOST_EXAMPLES, Finding, cover
from reviewsum_assets.errors import CheckpointError, DumpError
from reviewsum_assets.reviews.grouped import (
    GroupedReviews,
    current_grouped_reviews,
    repeated_products,
    scan_grouped,
    stale_dumps,
)
from reviewsum_assets.reviews.rows import QuarantinedRow
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

_LEAST_READ_SHARE = 0.9
# Examples in the description; the table has more.
_NAMED = 3
_GROUPED_REVIEWS = dg.AssetKey("grouped_reviews")


@dataclass(frozen=True)
class Rule:
    """A check with its wording. One that stops a run is an error, another one is a warning."""

    asset: dg.AssetKey
    name: str
    description: str
    trouble: str  # after a count, as in "3 of 320 summaries *end in mid-sentence*"
    advice: str  # the remedy
    blocking: bool = False
    subject: str = "product_id"  # heads of the table of examples
    detail: str = "problem"

    @property
    def spec(self) -> dg.AssetCheckSpec:
        """The check as Dagster knows it."""
        return dg.AssetCheckSpec(
            self.name, asset=self.asset, blocking=self.blocking, description=self.description
        )

    def judge(
        self,
        finding: Finding,
        total: int,
        *,
        allowed: float = 0.0,
        is_fault: bool = True,
        note: str = "",
    ) -> dg.AssetCheckResult:
        """The result of a check that looked at ``total`` rows or products.

        Args:
            finding: what was found.
            total: number of rows or products.
            allowed: share of findings up to which the check passes.
            is_fault: whether findings stop a run where the check is blocking.
            note: ends the description.
        """
        share = finding.share(total)
        passed = share <= allowed
        metadata: dict[str, Any] = {
            "found": finding.count,
            "of": total,
            "share": share,
            "allowed_share": allowed,
        }
        if finding.count:
            metadata["examples"] = display.table([self.subject, self.detail], finding.examples)
            metadata["what_to_do"] = self.advice
        description = f"{finding.count:,} of {total:,} {self.trouble}"
        if not passed:
            limit = f" ({share:.1%}; {allowed:.1%} may)" if allowed else ""
            first = ", ".join(name for name, _ in finding.examples[:_NAMED])
            more = f" and {finding.count - _NAMED:,} more" if finding.count > _NAMED else ""
            description += f"{limit}: {first}{more}. {self.advice}"
        severity = dg.AssetCheckSeverity
        return dg.AssetCheckResult(
            asset_key=self.asset,
            check_name=self.name,
            passed=passed,
            severity=severity.ERROR if self.blocking and is_fault else severity.WARN,
            description=description + note,
            metadata=metadata,
        )


def chosen(
    context: dg.AssetCheckExecutionContext, results: Iterable[dg.AssetCheckResult]
) -> Iterator[dg.AssetCheckResult]:
    """The results of the checks that the run contains."""
    names = {key.name for key in context.selected_asset_check_keys}
    return (result for result in results if result.check_name in names)


def failed_checks(
    instance: dg.DagsterInstance, run_id: str, *, is_blocking: bool
) -> dict[str, str]:
    """Descriptions of a run's failed checks by asset and check; blocking ones, or the others."""
    evaluations = [
        entry.asset_check_evaluation
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    ]
    return {
        f"{found.asset_key.to_user_string()}: {found.check_name}": found.description or ""
        for found in evaluations
        if found is not None
        and not found.passed
        # None where a run logged the evaluation itself.
        and is_blocking is bool(found.blocking and found.severity is dg.AssetCheckSeverity.ERROR)
    }


_ONE_ROW = Rule(
    _GROUPED_REVIEWS,
    "one_row_a_product",
    "Every row has a product id, and no two have the same. No plan is made otherwise.",
    "products are in several rows, or have no id",
    "Remove the repeated rows from the dump and materialize grouped_reviews again",
    blocking=True,
)
_ROWS_READ = Rule(
    _GROUPED_REVIEWS,
    "rows_are_readable",
    "Few rows of the dumps are in quarantine: at most `max_quarantined_share`.",
    "rows of the dumps could not be read",
    f"Read the reasons in {places.QUARANTINE}/ of the lake; correct the dump or download it again, "
    "or raise max_quarantined_share",
    subject="row",
    detail="reason",
)
_DUMPS_WHOLE = Rule(
    _GROUPED_REVIEWS,
    "dumps_are_whole",
    "No dump breaks off: how many reviews a damaged file has lost is unknown.",
    "dumps are damaged; rows before the damage are read, the others are lost",
    "Download them again and replace the damaged ones",
    subject="dump",
    detail="where, and why",
)


_FIELDS_READ = Rule(
    _GROUPED_REVIEWS,
    "fields_are_readable",
    f"Of each dump at least {_LEAST_READ_SHARE:.0%} of the ratings, dates, votes and reviewers "
    "given could be read; the others count as absent.",
    f"fields of dumps could be read in less than {_LEAST_READ_SHARE:.0%} of their rows",
    "Write such values in a usual form, or name another column with --columns",
    subject="field",
    detail="values that could be read",
)


@dg.multi_asset_check(
    specs=[rule.spec for rule in (_ONE_ROW, _ROWS_READ, _FIELDS_READ, _DUMPS_WHOLE)],
    name="grouped_reviews_checks",
    can_subset=True,
)
@fails_plainly
def grouped_reviews_checks(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> Iterator[dg.AssetCheckResult]:
    """Check the ids of the grouped table and the record of the rows that were read."""
    lake, record = pipeline.lake, current_grouped_reviews(pipeline.lake)
    if record is None:
        raise DumpError("there are no grouped reviews to check: materialize grouped_reviews first")
    counts = record.counts
    repeated = repeated_products(scan_grouped(lake, record))
    examples = [(str(product), f"{times} rows") for product, times in repeated.iter_rows()]
    damaged = [(dump.label, dump.damage) for dump in record.dumps if dump.damage]
    results = (
        _ONE_ROW.judge(Finding(repeated.height, examples[:MOST_EXAMPLES]), counts.products),
        _ROWS_READ.judge(
            Finding(counts.quarantined, _first_rows(lake, record.quarantine_key)),
            counts.reviews_read + counts.quarantined,
            allowed=pipeline.settings.max_quarantined_share,
        ),
        _FIELDS_READ.judge(*_unread_fields(record)),
        _DUMPS_WHOLE.judge(Finding(len(damaged), damaged[:MOST_EXAMPLES]), len(record.dumps)),
    )
    yield from chosen(context, results)


def _unread_fields(record: GroupedReviews) -> tuple[Finding, int]:
    """Fields of dumps of which too little could be read, and the number of all fields."""
    given = [
        (dump, name, reading)
        for dump in record.dumps
        for name, reading in dump.fields.items()
        if reading.given
    ]
    unread = [
        (
            f"{name} of {dump.label} (not {', '.join(map(repr, reading.examples))})",
            f"{reading.read:,} of {reading.given:,}",
        )
        for dump, name, reading in given
        if reading.read < _LEAST_READ_SHARE * reading.given
    ]
    return Finding(len(unread), unread[:MOST_EXAMPLES]), len(given)


def _first_rows(lake: Lake, key: str | None) -> list[tuple[str, str]]:
    """File and line of the first rows in quarantine, and why they are there."""
    if key is None:
        return []
    with lake.open_reader(key) as file:
        rows = [QuarantinedRow.model_validate_json(line) for line in islice(file, MOST_EXAMPLES)]
    return [(f"{row.file}, line {row.line}", row.reason) for row in rows]


_MERGE_AGAIN = (
    "Materialize merged_summaries again; if that does not help, `reviewsum verify` names the "
    "damaged files"
)
_COMPLETE = Rule(
    MERGED_SUMMARIES,
    "all_accounted_for",
    "Every product that the plan selects has a summary or is in quarantine. A warning only, if the "
    "merge was allowed to be incomplete.",
    "selected products are neither summarized nor in quarantine",
    "Materialize the checkpoints named here, then merged_summaries; or use `reviewsum run`",
    blocking=True,
    detail="checkpoint",
)
_PLANNED = Rule(
    MERGED_SUMMARIES,
    "only_planned_products",
    "Every row is of a product that the plan selects.",
    "rows are of products that the plan does not select",
    _MERGE_AGAIN,
    blocking=True,
)
_ONE_MERGED_ROW = Rule(
    MERGED_SUMMARIES,
    "one_row_a_product",
    "No product is in the table twice.",
    "products have more than one row",
    _MERGE_AGAIN,
    blocking=True,
)
_QUARANTINE = Rule(
    MERGED_SUMMARIES,
    "few_in_quarantine",
    "The model summarizes all but a few products: at most `max_quarantined_share` are in "
    "quarantine.",
    "selected products are in quarantine",
    "Read the reasons; correct the model or the reviews, then materialize their checkpoints with "
    "`recompute`, or raise max_quarantined_share",
    detail="reason",
)
_FRESH = Rule(
    MERGED_SUMMARIES,
    "up_to_date",
    "No dump has come or changed since the reviews were grouped, planned and merged.",
    "dumps or steps are newer than the table",
    "Materialize grouped_reviews and all that depends on it, or use `reviewsum run`",
    subject="dump or step",
    detail="newer content",
)


@dg.multi_asset_check(
    specs=[rule.spec for rule in (_COMPLETE, _PLANNED, _ONE_MERGED_ROW, _QUARANTINE, _FRESH)],
    name="merged_summaries_checks",
    can_subset=True,
)
@fails_plainly
def merged_summaries_checks(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> Iterator[dg.AssetCheckResult]:
    """Compare the table with the plan, the manifests and the dumps."""
    plan = plan_of_run(context.instance, context.run, pipeline.lake)
    merged = current_merged_table(pipeline.lake)
    if merged is None:
        raise CheckpointError("there is nothing to check: materialize merged_summaries first")
    quarantined = [
        (product.product_id, state.planned.number, product.reason)
        for state, manifest in pipeline.state.manifests(plan)
        for product in manifest.quarantined
    ]
    found = cover(pipeline.lake, plan, quarantined)
    left_out = set(merged.incomplete_checkpoints)
    was_allowed = bool(left_out) and found.missing_checkpoints <= left_out
    stale = _stale(pipeline, plan, merged)
    results = (
        _COMPLETE.judge(found.missing, found.selected, is_fault=not was_allowed),
        _PLANNED.judge(found.unplanned, found.rows),
        _ONE_MERGED_ROW.judge(found.repeated, found.rows),
        _QUARANTINE.judge(
            found.quarantined, found.selected, allowed=pipeline.settings.max_quarantined_share
        ),
        _FRESH.judge(Finding(len(stale), stale), len(stale)),
    )
    yield from chosen(context, results)


def _stale(pipeline: Pipeline, plan: Plan, merged: MergedTable) -> list[tuple[str, str]]:
    try:
        stale = stale_dumps(pipeline.lake, pipeline.settings)
    except DumpError as error:
        stale = [("dumps", str(error))]
    grouped = current_grouped_reviews(pipeline.lake)
    if grouped is not None and grouped.version != plan.grouped_version:
        stale.append(("grouped_reviews", "grouped again since the plan was made"))
    if merged.plan_id != plan.plan_id:
        stale.append(("checkpoint_plan", f"plan {plan.plan_id} was made since"))
    return stale
