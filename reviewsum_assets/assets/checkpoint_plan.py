"""``checkpoint_plan``: which product belongs to which checkpoint; adds the partitions."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from reviewsum_assets import places
from reviewsum_assets.assets import markdown
from reviewsum_assets.assets.grouped_reviews import grouped_reviews
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.assets.summarizer_model import summarizer_model
from reviewsum_assets.checkpoints.plan import Plan
from reviewsum_assets.checkpoints.planning import PlanOutcome, Vanished, make_plan
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.compute.estimate import Estimate, estimate
from reviewsum_assets.errors import PlanError, ReviewsumError
from reviewsum_assets.job.model_directory import ready_model
from reviewsum_assets.reviews.grouping import current_grouped_reviews, scan_grouped, scan_too_few

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"

checkpoint_partitions = dg.DynamicPartitionsDefinition(name="checkpoints")

_PREVIEW_CHECKPOINTS = 10
_DIGITS = 12  # of a hash, to tell it from others


@dataclass(frozen=True)
class Alignment:
    """Partitions that were added, and those that left since their checkpoints are retired."""

    added: tuple[str, ...]
    retired: tuple[str, ...]


@dg.asset(
    deps=[grouped_reviews, summarizer_model],
    group_name="summaries",
    kinds={"polars", "parquet"},
    owners=["team:reviewsum"],
    tags={"domain": "summaries"},
    description=(
        "Decides what is to be computed, and shows what it will cost before it does. Selects the "
        "`top_k` products with most reviews and packs those that are new or changed, by text, "
        "model or settings, into **checkpoints** of 100 products. Each checkpoint is a partition "
        "of `chunk_summaries`. Finished checkpoints are never touched; one that newer ones replace "
        "entirely is retired, and its partition goes."
    ),
)
@fails_plainly
def checkpoint_plan(
    context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.MaterializeResult[None]:
    """Plan, and bring the partitions into line with the plan."""
    grouped = current_grouped_reviews(pipeline.lake)
    if grouped is None:
        raise PlanError("there are no grouped reviews yet: materialize grouped_reviews first")
    model, _ = ready_model(pipeline.lake, pipeline.settings)
    outcome = make_plan(
        pipeline.lake,
        scan_grouped(pipeline.lake, grouped),
        grouped.version,
        model.version,
        pipeline.settings,
        too_few=scan_too_few(pipeline.lake, grouped),
    )
    if outcome.vanished is not None and outcome.vanished.total:
        context.log.warning(str(outcome.vanished))
    if not outcome.made:
        context.log.info(f"plan {outcome.plan.plan_id} still holds: nothing is new or changed")
    align_partitions(context.instance, outcome.plan)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(outcome.plan.plan_id),
        metadata={**_metadata(pipeline, outcome), **_bill(context, pipeline, outcome.plan)},
    )


def align_partitions(instance: dg.DagsterInstance, plan: Plan) -> Alignment:
    """Give the instance the partitions of ``plan`` and no others."""
    name = checkpoint_partitions.name
    assert name is not None
    planned = [checkpoint.partition_key for checkpoint in plan.checkpoints]
    known = set(instance.get_dynamic_partitions(name))
    missing = [key for key in planned if key not in known]
    surplus = sorted(known.difference(planned))
    if missing:
        instance.add_dynamic_partitions(name, missing)
    for key in surplus:
        instance.delete_dynamic_partition(name, key)
    return Alignment(tuple(missing), tuple(surplus))


def _metadata(pipeline: Pipeline, outcome: PlanOutcome) -> dict[str, Any]:
    plan = outcome.plan
    first = plan.checkpoints[:_PREVIEW_CHECKPOINTS]
    return {
        "dagster/row_count": plan.selected,
        "dagster/uri": pipeline.lake.uri_of(places.plan_table(plan.plan_id)),
        "plan": plan.sequence,
        "products_new": outcome.new,
        "products_changed": outcome.changed,
        "products_unchanged": outcome.unchanged,
        "checkpoints": len(plan.checkpoints),
        "checkpoints_added": len(outcome.added),
        "checkpoints_retired": len(outcome.retired),
        **_vanished_metadata(outcome.vanished),
        "settings": dg.MetadataValue.json(plan.recipes[plan.recipe].settings.model_dump()),
        "first_checkpoints": markdown.table(
            ["checkpoint", "products", "data version"],
            ((c.partition_key, c.products, c.data_version[:_DIGITS]) for c in first),
        ),
    }


def _vanished_metadata(vanished: Vanished | None) -> dict[str, int]:
    if vanished is None:
        return {}
    return {
        "products_in_no_dump_any_more": vanished.absent,
        "products_with_too_few_reviews": vanished.too_few,
        "products_below_top_k": vanished.below_top_k,
    }


def _bill(
    context: dg.AssetExecutionContext, pipeline: Pipeline, plan: Plan
) -> dict[str, dg.MetadataValue[Any]]:
    """What the checkpoints that are not valid yet will take; a plan holds without it."""
    states = check_checkpoints(pipeline.lake, plan.checkpoints)
    pending = [state.planned for state in states if not state.is_valid]
    try:
        found = estimate(pipeline.lake, plan, pending, pipeline.settings, pipeline.compute.capacity)
    except ReviewsumError as error:
        context.log.warning(f"no estimate: {error}")
        return {"estimate": dg.MetadataValue.text(f"none: {error}")}
    return _estimate_metadata(found)


def _estimate_metadata(found: Estimate) -> dict[str, dg.MetadataValue[Any]]:
    """Numbers, so that they plot from plan to plan, and a table to read."""
    spans = {"gpu_hours": found.gpu_hours, "hours": found.hours, "usd": found.usd}
    counts = {
        "checkpoints": found.checkpoints,
        "products": found.products,
        "chunks": found.chunks,
        "tokens_in": found.tokens_in,
        "tokens_out": found.tokens_out,
    }
    return {
        **{f"pending_{name}": dg.MetadataValue.int(count) for name, count in counts.items()},
        **{
            f"estimated_{name}{suffix}": dg.MetadataValue.float(value)
            for name, span in spans.items()
            for suffix, value in (("", span.expected), ("_low", span.low), ("_high", span.high))
        },
        "estimate_basis": dg.MetadataValue.text(found.basis),
        "estimate": markdown.table(
            ["pending", "expected", "from", "to"],
            [
                *((name, f"{count:,}", "", "") for name, count in counts.items()),
                *(
                    (name, *(f"{value:,.2f}" for value in (span.expected, span.low, span.high)))
                    for name, span in spans.items()
                ),
            ],
        ),
    }
