"""Asset checks of grouped reviews and of the merged table, and the form of all check results."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.checkpoint_plan import plan_of_run
from reviewsum_assets.assets.grouped_reviews import grouped_reviews
from reviewsum_assets.assets.partitions import MERGED_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.merge import MergedTable, current_merged_table
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.checkpoints.quality import MOST_EXAMPLES, Finding, cover
from reviewsum_assets.errors import CheckpointError, DumpError
from reviewsum_assets.reviews.grouping import (
    GroupedReviews,
    current_grouped_reviews,
    repeated_products,
    scan_grouped,
    stale_dumps,
)
from reviewsum_assets.reviews.rows import QuarantinedRow
from reviewsum_assets.storage.lake import Lake

_LEAST_READ_SHARE = 0.9
# Examples in the description; the table has more.
_NAMED = 3


@dataclass(frozen=True)
class Rule:
    """Limits and wording of a check."""

    trouble: str  # after a count, as in "3 of 320 summaries *end in mid-sentence*"
    advice: str  # the remedy
    allowed: float = 0.0  # share of findings up to which the check passes
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    subject: str = "product_id"  # heads of the table of examples
    detail: str = "problem"
    well: str = ""  # description if there is no finding


def judged(
    spec: dg.AssetCheckSpec, rule: Rule, finding: Finding, total: int
) -> dg.AssetCheckResult:
    """The result of a check that looked at ``total`` rows or products."""
    share = finding.share(total)
    passed = share <= rule.allowed
    metadata: dict[str, Any] = {
        "found": finding.count,
        "of": total,
        "share": share,
        "allowed_share": rule.allowed,
    }
    if finding.count:
        metadata["examples"] = display.table([rule.subject, rule.detail], finding.examples)
        metadata["what_to_do"] = rule.advice
    description = f"{finding.count:,} of {total:,} {rule.trouble}"
    if rule.well and not finding.count:
        description = rule.well
    elif not passed:
        limit = f" ({share:.1%}; {rule.allowed:.1%} may)" if rule.allowed else ""
        first = ", ".join(name for name, _ in finding.examples[:_NAMED])
        more = f" and {finding.count - _NAMED:,} more" if finding.count > _NAMED else ""
        description += f"{limit}: {first}{more}. {rule.advice}"
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=passed,
        severity=rule.severity,
        description=description,
        metadata=metadata,
    )


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
    description="No dump breaks off: how many reviews a damaged file has lost is unknown.",
)


_FIELDS_READ = dg.AssetCheckSpec(
    "fields_are_readable",
    asset=grouped_reviews,
    description="Of each dump at least 90 % of the ratings, dates, votes and reviewers that it "
    "gives could be read: those that could not count as absent.",
)


@dg.multi_asset_check(
    specs=[_ONE_ROW, _ROWS_READ, _FIELDS_READ, _DUMPS_WHOLE],
    name="grouped_reviews_checks",
    can_subset=True,
)
@fails_plainly
def grouped_reviews_checks(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> Iterator[dg.AssetCheckResult]:
    """Check the ids of the grouped table and the record of the rows that were read."""
    record = current_grouped_reviews(pipeline.lake)
    if record is None:
        raise DumpError("there are no grouped reviews to check: materialize grouped_reviews first")
    if _ONE_ROW.key in context.selected_asset_check_keys:
        yield _one_row_a_product(pipeline.lake, record)
    if _ROWS_READ.key in context.selected_asset_check_keys:
        yield _rows_could_be_read(pipeline, record)
    if _FIELDS_READ.key in context.selected_asset_check_keys:
        yield _fields_could_be_read(record)
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
        f"Read the reasons in {where}; correct the dump or download it again, or raise "
        "max_quarantined_share",
        allowed=pipeline.settings.max_quarantined_share,
        severity=dg.AssetCheckSeverity.WARN,
        detail="reason",
        subject="row",
    )
    counts = record.counts
    finding = Finding(counts.quarantined, _first_rows(pipeline.lake, record.quarantine_key))
    return judged(_ROWS_READ, rule, finding, counts.reviews_read + counts.quarantined)


def _fields_could_be_read(record: GroupedReviews) -> dg.AssetCheckResult:
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
    rule = Rule(
        f"fields of dumps could be read in less than {_LEAST_READ_SHARE:.0%} of their rows",
        "Write such values in a usual form, or name another column with --columns",
        severity=dg.AssetCheckSeverity.WARN,
        detail="values that could be read",
        subject="field",
    )
    return judged(_FIELDS_READ, rule, Finding(len(unread), unread[:MOST_EXAMPLES]), len(given))


def _dumps_are_whole(record: GroupedReviews) -> dg.AssetCheckResult:
    damaged = [(dump.label, dump.damage) for dump in record.dumps if dump.damage]
    rule = Rule(
        "dumps are damaged; rows before the damage are read, the others are lost",
        "Download them again and replace the damaged ones",
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


_ERROR, _WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
_MERGE_AGAIN = (
    "Materialize merged_summaries again; if that does not help, `reviewsum verify` names the "
    "damaged files"
)

_COMPLETE = dg.AssetCheckSpec(
    "all_accounted_for",
    asset=MERGED_SUMMARIES,
    blocking=True,
    description="Every product that the plan selects has a summary or is in quarantine. A warning "
    "only, if the merge was allowed to be incomplete.",
)
_PLANNED = dg.AssetCheckSpec(
    "only_planned_products",
    asset=MERGED_SUMMARIES,
    blocking=True,
    description="Every row is of a product that the plan selects.",
)
_ONE_MERGED_ROW = dg.AssetCheckSpec(
    "one_row_a_product",
    asset=MERGED_SUMMARIES,
    blocking=True,
    description="No product is in the table twice.",
)
_QUARANTINE = dg.AssetCheckSpec(
    "few_in_quarantine",
    asset=MERGED_SUMMARIES,
    description="The model summarizes all but a few products: at most "
    "`max_quarantined_share` are in quarantine.",
)
_FRESH = dg.AssetCheckSpec(
    "up_to_date",
    asset=MERGED_SUMMARIES,
    description="No dump has come or changed since the reviews were grouped, planned and merged.",
)


@dg.multi_asset_check(
    specs=[_COMPLETE, _PLANNED, _ONE_MERGED_ROW, _QUARANTINE, _FRESH],
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
    coverage = cover(pipeline.lake, plan, quarantined)
    left_out = set(merged.incomplete_checkpoints)
    was_allowed = bool(left_out) and coverage.missing_checkpoints <= left_out
    stale = _stale(pipeline, plan, merged)
    checks = (
        (
            _COMPLETE,
            Rule(
                "selected products are neither summarized nor in quarantine",
                "Materialize the checkpoints named here, then merged_summaries; or use "
                "`reviewsum run`",
                severity=_WARN if was_allowed else _ERROR,
                detail="checkpoint",
            ),
            coverage.missing,
            coverage.selected,
        ),
        (
            _PLANNED,
            Rule("rows are of products that the plan does not select", _MERGE_AGAIN),
            coverage.unplanned,
            coverage.rows,
        ),
        (
            _ONE_MERGED_ROW,
            Rule("products have more than one row", _MERGE_AGAIN),
            coverage.repeated,
            coverage.rows,
        ),
        (
            _QUARANTINE,
            Rule(
                "selected products are in quarantine",
                "Read the reasons; correct the model or the reviews, then materialize their "
                "checkpoints with `recompute`, or raise max_quarantined_share",
                allowed=pipeline.settings.max_quarantined_share,
                severity=_WARN,
                detail="reason",
            ),
            coverage.quarantined,
            coverage.selected,
        ),
        (
            _FRESH,
            Rule(
                "dumps or steps are newer than the table",
                "Materialize grouped_reviews and all that depends on it, or use `reviewsum run`",
                severity=_WARN,
                subject="dump or step",
                detail="newer content",
                well="nothing is newer than the table",
            ),
            Finding(len(stale), stale),
            len(stale),
        ),
    )
    for spec, rule, finding, total in checks:
        if spec.key in context.selected_asset_check_keys:
            yield judged(spec, rule, finding, total)


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
