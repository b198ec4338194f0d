"""The check of ``chunk_summaries`` that the model says everywhere what it said at first.

A run judges the checkpoints that it asked for; before a merge, all checkpoints of the plan are.
"""

import dagster as dg

from reviewsum_assets.assets.check_results import Rule, judged
from reviewsum_assets.assets.display import shortened
from reviewsum_assets.assets.partition_metadata import CHUNK_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.manifest import read_manifests
from reviewsum_assets.checkpoints.plan import Plan, require_plan
from reviewsum_assets.checkpoints.quality import MOST_EXAMPLES, Finding
from reviewsum_assets.errors import CheckError
from reviewsum_assets.evaluation.canaries import CanaryComparison
from reviewsum_assets.storage import places

_EXCERPT_CHARS = 200

_SPEC = dg.AssetCheckSpec(
    "canary_summaries",
    asset=CHUNK_SUMMARIES,
    blocking=True,
    description="Every worker summarizes four fixed texts first, and says the same of them as the "
    "first one did, whatever GPU, engine and library versions it runs on. Other words are a "
    "warning; below `min_canary_rouge_l`, nothing is merged.",
)


@dg.multi_asset_check(specs=[_SPEC], name="canary_check")
@fails_plainly
def canary_check(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Compare the workers of all checkpoints of the current plan, by their manifests."""
    return _result_of_plan(pipeline, require_plan(pipeline.lake))


def require_agreeing_canaries(
    context: dg.AssetExecutionContext, pipeline: Pipeline, plan: Plan, *, is_logged: bool
) -> None:
    """Refuse to go on where the check would: a run without the check leaves it out.

    Args:
        context: of the run.
        pipeline: whose lake holds the checkpoints.
        plan: whose checkpoints are compared.
        is_logged: whether the comparison is logged as an evaluation of the check.

    Raises:
        CheckError: workers are farther apart than ``min_canary_rouge_l`` allows.
    """
    result = _result_of_plan(pipeline, plan)
    if is_logged:
        _log(context, result)
    if not result.passed and result.severity is dg.AssetCheckSeverity.ERROR:
        raise CheckError(f"{_SPEC.name}: {result.description}")


def _result_of_plan(pipeline: Pipeline, plan: Plan) -> dg.AssetCheckResult:
    recipes = {planned.number: planned.recipe for planned in plan.checkpoints}
    comparison = CanaryComparison(pipeline.lake)
    for manifest in read_manifests(pipeline.lake, plan.checkpoints):
        comparison.add(recipes.get(manifest.checkpoint, plan.recipe), manifest)
    return canary_result(pipeline, comparison)


def log_canaries(
    context: dg.AssetExecutionContext, pipeline: Pipeline, comparison: CanaryComparison
) -> None:
    """Log what a run's checkpoints show as an evaluation of the check.

    The check itself needs an output of ``chunk_summaries``, and a run gives none: it logs each
    materialization by itself.
    """
    _log(context, canary_result(pipeline, comparison))


def _log(context: dg.AssetExecutionContext, result: dg.AssetCheckResult) -> None:
    if not result.passed:
        context.log.warning(result.description or "")
    context.log_event(
        dg.AssetCheckEvaluation(
            asset_key=_SPEC.asset_key,
            check_name=_SPEC.name,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
        )
    )


def canary_result(pipeline: Pipeline, comparison: CanaryComparison) -> dg.AssetCheckResult:
    """What the checkpoints seen so far show."""
    drifts = comparison.drifts()
    least = min((drift.rouge_l for drift in drifts), default=1.0)
    is_fault = least < pipeline.settings.min_canary_rouge_l
    where = pipeline.lake.uri_of(places.CANARY_SUMMARIES)
    silent = f"; {comparison.silent:,} others were not asked" if comparison.silent else ""
    rule = Rule(
        "checkpoints come from workers that say something else of the canary texts than the first "
        f"one, ROUGE-L {least:.2f} or more",
        "Compare the texts and decide which is right: compute the checkpoints of the wrong one "
        f"again with `recompute`, where the right one ran; if the first worker, in {where}, was "
        "wrong, remove that first. If either will do, lower min_canary_rouge_l",
        severity=dg.AssetCheckSeverity.ERROR if is_fault else dg.AssetCheckSeverity.WARN,
        subject="worker",
        detail="what differs",
        well=f"{comparison.compared:,} checkpoints come from workers that say the same{silent}",
    )
    examples = [
        (
            drift.place,
            f"{drift.checkpoints:,} checkpoints; {drift.differing} of {drift.texts} texts, "
            f"ROUGE-L {drift.rouge_l:.2f}; {drift.changes}; for example: "
            f"{shortened(drift.found, _EXCERPT_CHARS)} - was: "
            f"{shortened(drift.expected, _EXCERPT_CHARS)}",
        )
        for drift in drifts[:MOST_EXAMPLES]
    ]
    finding = Finding(sum(drift.checkpoints for drift in drifts), examples)
    return judged(_SPEC, rule, finding, comparison.compared)
