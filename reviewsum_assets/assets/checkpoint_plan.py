"""``checkpoint_plan``: assigns products to checkpoints and maintains the partitions."""

from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.grouped_reviews import grouped_reviews
from reviewsum_assets.assets.partitions import DATA_VERSION_TAG, align_partitions, materialized_in
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.assets.summarizer_model import summarizer_model
from reviewsum_assets.checkpoints.plan import Plan, partition_key, require_plan, require_plan_of
from reviewsum_assets.checkpoints.planning import PlanOutcome, make_plan
from reviewsum_assets.checkpoints.validity import finished_numbers
from reviewsum_assets.compute.estimate import Estimate, estimate
from reviewsum_assets.errors import PlanError, ReviewsumError, first_names
from reviewsum_assets.job.models.directory import ReadyModel, ready_model
from reviewsum_assets.lake_state import setting_differences, unused_overrides
from reviewsum_assets.reviews.grouped import (
    GroupedReviews,
    current_grouped_reviews,
    is_current,
    require_still_current,
    scan_grouped,
    scan_too_few,
    why_no_product,
)
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.tables import UNREADABLE

# Of a materialization: ``Plan.input_version``, for the later steps of the same run.
INPUT_VERSION_TAG = "reviewsum/input_version"

_PREVIEW_CHECKPOINTS = 10
_DIGITS = 12  # of a hash, to tell it from others


@dg.asset(
    deps=[grouped_reviews, summarizer_model],
    group_name="summaries",
    kinds={"polars", "parquet"},
    owners=["team:reviewsum"],
    description=(
        "Shows the cost before any job starts. Selects the `top_k` products with most reviews and "
        "packs those that are new or changed, by text, model or settings, into **checkpoints** of "
        "100 products. Each checkpoint is a partition of `chunk_summaries`. Finished checkpoints "
        "do not change; one that newer ones replace entirely is retired, and its partition is "
        "removed."
    ),
)
@fails_plainly
def checkpoint_plan(
    context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.MaterializeResult[None]:
    """Make a plan and align the partitions with it."""
    grouped = _grouped_reviews_of_run(context, pipeline)
    if not grouped.counts.products:
        raise PlanError(why_no_product(grouped, pipeline.settings))
    model = _model_of_run(context, pipeline)
    try:
        outcome = make_plan(
            pipeline.lake,
            scan_grouped(pipeline.lake, grouped),
            grouped.version,
            model.version,
            pipeline.settings,
            too_few=scan_too_few(pipeline.lake, grouped),
        )
    except (*UNREADABLE, OSError):
        require_still_current(pipeline.lake, grouped)
        raise
    if outcome.vanished is not None and outcome.vanished.total:
        pipeline.say(context.log.warning, str(outcome.vanished))
    news = str(outcome) if outcome.made else "nothing is new or changed"
    pipeline.say(context.log.info, f"plan {outcome.plan.sequence}: {news}")
    _warn_of_retired(context, pipeline, outcome)
    for reason in unused_overrides(pipeline.overrides, pipeline.settings, load_settings()):
        context.log.warning(f"override without effect: {reason}")
    align_partitions(context.instance, outcome.plan)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(outcome.plan.plan_id),
        tags={INPUT_VERSION_TAG: outcome.plan.input_version},
        metadata={**_bill(context, pipeline, outcome.plan), **_metadata(pipeline, outcome)},
    )


def _warn_of_retired(
    context: dg.AssetExecutionContext, pipeline: Pipeline, outcome: PlanOutcome
) -> None:
    """Log how many complete partitions are retired, before they are removed."""
    complete = sorted(set(outcome.retired).intersection(finished_numbers(pipeline.lake)))
    if complete:
        names = first_names([partition_key(number) for number in complete])
        pipeline.say(
            context.log.warning,
            f"{len(complete):,} complete partitions are removed, since the plan no longer uses "
            f"any product of them: {names}. Their files stay until `reviewsum prune`; planning "
            "with the former dumps and settings restores the partitions",
        )


def plan_of_run(
    instance: dg.DagsterInstance, run: dg.DagsterRun, lake: Lake, before: Plan | None = None
) -> Plan:
    """The current plan, provided that it was made from the input and settings of this run.

    Args:
        instance: holds the run's events.
        run: without the step ``checkpoint_plan`` it uses any current plan.
        lake: holds the plan.
        before: the plan that a run without this step used earlier.

    Raises:
        PlanError: there is no plan, or another run made a different one current.
    """
    made = materialized_in(instance, run, "checkpoint_plan")
    if made is not None:
        return require_plan_of(lake, (made.tags or {}).get(INPUT_VERSION_TAG, ""))
    return require_plan(lake) if before is None else require_plan_of(lake, before.input_version)


def _grouped_reviews_of_run(
    context: dg.AssetExecutionContext, pipeline: Pipeline
) -> GroupedReviews:
    """The current grouped reviews, provided that they are those of this run."""
    record = current_grouped_reviews(pipeline.lake)
    if record is None:
        raise PlanError("there are no grouped reviews yet: materialize grouped_reviews first")
    made = _version_made(context, "grouped_reviews")
    if made and made != record.version:
        raise PlanError(
            "another run has grouped other dumps, or with other settings, on this lake in the "
            "meantime: launch refresh again"
        )
    if not made and not is_current(pipeline.lake, pipeline.settings):
        raise PlanError(
            "the grouped reviews on this lake were made from other dumps, or with other settings: "
            "materialize grouped_reviews first, or launch refresh"
        )
    return record


def _model_of_run(context: dg.AssetExecutionContext, pipeline: Pipeline) -> ReadyModel:
    """The model that the settings name, provided that it is the one that this run prepared."""
    model, _ = ready_model(pipeline.lake, pipeline.settings)
    made = _version_made(context, "summarizer_model")
    if made and made != model.version:
        raise PlanError(
            "the model differs from the one that this run prepared, since its files changed or "
            "another run planned with another model in the meantime: launch refresh again"
        )
    return model


def _version_made(context: dg.AssetExecutionContext, asset: str) -> str:
    """Data version of an asset that this run has materialized; empty if it has not."""
    made = materialized_in(context.instance, context.run, asset)
    return "" if made is None else (made.tags or {}).get(DATA_VERSION_TAG, "")


def _metadata(pipeline: Pipeline, outcome: PlanOutcome) -> dict[str, Any]:
    plan = outcome.plan
    first = plan.checkpoints[:_PREVIEW_CHECKPOINTS]
    others = setting_differences(load_settings(), pipeline.settings)
    return {
        "products_new": outcome.new,
        "products_changed": outcome.changed,
        "products_changed_in_text": outcome.changed_text,
        "products_changed_in_model_or_settings": outcome.changed_recipe,
        "products_unchanged": outcome.unchanged,
        **({} if outcome.vanished is None else outcome.vanished.by_cause),
        **({"other_settings_than_the_environment": "; ".join(others)} if others else {}),
        "checkpoints": len(plan.checkpoints),
        "checkpoints_added": len(outcome.added),
        "checkpoints_retired": len(outcome.retired),
        "first_checkpoints": display.table(
            ["checkpoint", "products", "data version"],
            ((c.partition_key, c.products, c.data_version[:_DIGITS]) for c in first),
        ),
        "plan": f"{plan.sequence}: {plan.plan_id}",
        "settings": dg.MetadataValue.json(plan.recipes[plan.recipe].settings.model_dump()),
        "dagster/row_count": plan.selected,
        "dagster/uri": pipeline.lake.uri_of(places.plan_table(plan.plan_id)),
    }


def _bill(
    context: dg.AssetExecutionContext, pipeline: Pipeline, plan: Plan
) -> dict[str, dg.MetadataValue[Any]]:
    """Estimate, and log, the cost of the pending checkpoints; a plan is valid without it."""
    pending = pipeline.state.pending(plan)
    try:
        found = estimate(pipeline.lake, plan, pending, pipeline.settings, pipeline.compute.capacity)
    except ReviewsumError as error:
        context.log.warning(f"no estimate: {error}")
        return {"bill": dg.MetadataValue.text(f"none: {error}")}
    if not pending:
        return {"bill": dg.MetadataValue.text("nothing to compute: every checkpoint is complete")}
    pipeline.say(context.log.info, f"{len(pending):,} checkpoints are pending: {found.sentence}")
    return {
        "bill": dg.MetadataValue.text(found.sentence),
        "pending_products": dg.MetadataValue.int(found.products),
        "pending_checkpoints": dg.MetadataValue.int(found.checkpoints),
        "estimated_usd": dg.MetadataValue.float(round(found.usd.expected, 2)),
        "estimated_hours": dg.MetadataValue.float(round(found.hours.expected, 3)),
        "estimate": _estimate_table(found),
    }


def _estimate_table(found: Estimate) -> dg.MarkdownMetadataValue:
    counts = {
        "products": found.products,
        "chunks": found.chunks,
        "tokens in": found.tokens_in,
        "tokens out": found.tokens_out,
    }
    spans = {"GPU hours": found.gpu_hours, "hours": found.hours, "USD": found.usd}
    rows = [(name, f"{count:,}", "", "") for name, count in counts.items()]
    for name, span in spans.items():
        rows.append((name, f"{span.expected:,.2f}", f"{span.low:,.2f}", f"{span.high:,.2f}"))
    return display.table(["pending", "expected", "from", "to"], rows)
