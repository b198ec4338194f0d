"""Checks of ``merged_summaries``: whether the table is whole, up to date, and worth reading."""

from collections.abc import Iterator

import dagster as dg

from reviewsum_assets.assets.check_results import Rule, judged
from reviewsum_assets.assets.checkpoint_plan import plan_of_run
from reviewsum_assets.assets.merged_summaries import merged_summaries
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.merge import MergedTable, current_merged_table
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.checkpoints.quality import Finding, MergedCoverage, cover
from reviewsum_assets.errors import CheckpointError, DumpError
from reviewsum_assets.reviews.grouping import current_grouped_reviews, stale_dumps

_ERROR, _WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
_MERGE_AGAIN = (
    "Materialize merged_summaries again; if that does not help, `reviewsum verify` names what is "
    "wrong on the lake"
)

_COMPLETE = dg.AssetCheckSpec(
    "all_accounted_for",
    asset=merged_summaries,
    blocking=True,
    description="Every product that the plan selects has a summary or is in quarantine. A warning "
    "only, if the merge was allowed to be incomplete.",
)
_PLANNED = dg.AssetCheckSpec(
    "only_planned_products",
    asset=merged_summaries,
    blocking=True,
    description="Every row is of a product that the plan selects.",
)
_ONE_ROW = dg.AssetCheckSpec(
    "one_row_a_product",
    asset=merged_summaries,
    blocking=True,
    description="No product is in the table twice.",
)
_QUARANTINE = dg.AssetCheckSpec(
    "few_in_quarantine",
    asset=merged_summaries,
    description="The model could summarize all but a few products: at most "
    "`max_quarantined_share` are in quarantine.",
)
_FRESH = dg.AssetCheckSpec(
    "up_to_date",
    asset=merged_summaries,
    description="No dump has come or changed since the reviews were grouped, planned and merged.",
)


@dg.multi_asset_check(
    specs=[_COMPLETE, _PLANNED, _ONE_ROW, _QUARANTINE, _FRESH],
    name="merged_summaries_checks",
    can_subset=True,
)
@fails_plainly
def merged_summaries_checks(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> Iterator[dg.AssetCheckResult]:
    """Hold the table against the plan, the manifests and the dumps."""
    plan = plan_of_run(context.instance, context.run, pipeline.lake)
    merged = current_merged_table(pipeline.lake)
    if merged is None:
        raise CheckpointError("there is nothing to check: materialize merged_summaries first")
    coverage = cover(pipeline.lake, plan)
    for result in (
        _completeness(coverage, merged),
        judged(
            _PLANNED,
            Rule("rows are of products that the plan does not select", _MERGE_AGAIN),
            coverage.unplanned,
            coverage.rows,
        ),
        judged(
            _ONE_ROW,
            Rule("products have more than one row", _MERGE_AGAIN),
            coverage.repeated,
            coverage.rows,
        ),
        _quarantine(coverage, pipeline.settings.max_quarantined_share),
        _freshness(pipeline, plan, merged),
    ):
        if dg.AssetCheckKey(merged_summaries.key, result.check_name or "") in (
            context.selected_asset_check_keys
        ):
            yield result


def _completeness(coverage: MergedCoverage, merged: MergedTable) -> dg.AssetCheckResult:
    left_out = set(merged.incomplete_checkpoints)
    was_allowed = bool(left_out) and coverage.missing_checkpoints <= left_out
    rule = Rule(
        "selected products are neither summarized nor in quarantine",
        "Materialize the checkpoints named here, then merged_summaries; or use `reviewsum run`",
        severity=_WARN if was_allowed else _ERROR,
        detail="checkpoint",
    )
    return judged(_COMPLETE, rule, coverage.missing, coverage.selected)


def _quarantine(coverage: MergedCoverage, allowed: float) -> dg.AssetCheckResult:
    rule = Rule(
        "selected products are in quarantine",
        "Look at the reasons; correct the model or the reviews, then materialize their checkpoints "
        "with `recompute`, or raise max_quarantined_share",
        allowed=allowed,
        severity=_WARN,
        detail="reason",
    )
    return judged(_QUARANTINE, rule, coverage.quarantined, coverage.selected)


def _freshness(pipeline: Pipeline, plan: Plan, merged: MergedTable) -> dg.AssetCheckResult:
    stale = _stale(pipeline, plan, merged)
    rule = Rule(
        "dumps or steps are newer than the table",
        "Materialize grouped_reviews and all that depends on it, or use `reviewsum run`",
        severity=_WARN,
        subject="dump or step",
        detail="what is newer",
        well="nothing is newer than the table",
    )
    return judged(_FRESH, rule, Finding(len(stale), stale), len(stale))


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
