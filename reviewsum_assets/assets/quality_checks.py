"""Checks of ``merged_summaries`` that read every summary: is it a summary, and is it true."""

from collections.abc import Iterator

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import plan_of_run
from reviewsum_assets.assets.checks import Rule, judged
from reviewsum_assets.assets.display import shortened
from reviewsum_assets.assets.partitions import CHUNK_SUMMARIES, MERGED_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.plan import Plan, require_plan
from reviewsum_assets.checkpoints.quality import MOST_EXAMPLES, Defect, Finding, judge_summaries
from reviewsum_assets.errors import CheckError
from reviewsum_assets.evaluation.canaries import CanaryComparison
from reviewsum_assets.settings import QualitySettings
from reviewsum_assets.storage import places

_NAMES = {
    Defect.EMPTY: "no_empty_summaries",
    Defect.TRUNCATED: "whole_sentences",
    Defect.REPETITIVE: "no_loops",
    Defect.PLACEHOLDER: "no_placeholders",
    Defect.FOREIGN: "in_english",
    Defect.LENGTH: "sensible_length",
}
_DESCRIPTIONS = {
    Defect.EMPTY: "No summary is empty.",
    Defect.TRUNCATED: "Few summaries break off in mid-sentence: at most `max_defective_share`.",
    Defect.REPETITIVE: "Few summaries are caught in a loop, one phrase of three words making up an "
    "eighth of their words: at most `max_defective_share`.",
    Defect.PLACEHOLDER: "Few summaries hold marks of the tokenizer, HTML, links or a text such as "
    '"No reviews": at most `max_defective_share`.',
    Defect.FOREIGN: "Few summaries are in other letters than Latin ones, or without any common "
    "English word: at most `max_defective_share`. Not judged if `english_summaries` is off.",
    Defect.LENGTH: "Few summaries are shorter than `min_summary_words` or longer than "
    "`max_summary_words`: at most `max_defective_share`.",
}
_TROUBLE = {
    Defect.EMPTY: "summaries are empty",
    Defect.TRUNCATED: "summaries break off in mid-sentence",
    Defect.REPETITIVE: "summaries repeat one phrase over and over",
    Defect.PLACEHOLDER: "summaries hold placeholders, markup or links",
    Defect.FOREIGN: "summaries are not English",
    Defect.LENGTH: "summaries are too short or too long",
}
_ADVICE = {
    Defect.EMPTY: "Materialize their checkpoints with `recompute`, then merged_summaries",
    Defect.TRUNCATED: "Raise max_length, which ended them, or take another model",
    Defect.REPETITIVE: "Raise num_beams, lower min_length, or take another model",
    Defect.PLACEHOLDER: "Look at the reviews of these products: what is copied comes from there, "
    "what is not from a tokenizer that does not belong to the model",
    Defect.FOREIGN: "If the reviews are not English, set english_summaries to false; if they are, "
    "model and tokenizer do not belong together",
    Defect.LENGTH: "Change min_length and max_length, or the bounds min_summary_words and "
    "max_summary_words",
}

_SPECS = {
    defect: dg.AssetCheckSpec(
        name,
        asset=MERGED_SUMMARIES,
        blocking=defect is Defect.EMPTY,
        description=_DESCRIPTIONS[defect],
    )
    for defect, name in _NAMES.items()
}
_NUMBERS = dg.AssetCheckSpec(
    "numbers_from_reviews",
    asset=MERGED_SUMMARIES,
    description="Few summaries name a number that is not in the reviews they were made from: at "
    "most `max_defective_share` of those that name any.",
)


@dg.multi_asset_check(
    specs=[*_SPECS.values(), _NUMBERS], name="summary_quality_checks", can_subset=True
)
@fails_plainly
def summary_quality_checks(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> Iterator[dg.AssetCheckResult]:
    """Read the merged table once, and the reviews of what names a number."""
    settings = pipeline.settings
    plan = plan_of_run(context.instance, context.run, pipeline.lake)
    report = judge_summaries(pipeline.lake, plan, settings)
    chosen = context.selected_asset_check_keys
    for defect, spec in _SPECS.items():
        if spec.key in chosen:
            yield judged(spec, _rule(defect, settings), report.defects[defect], report.summaries)
    if _NUMBERS.key in chosen:
        rule = Rule(
            "summaries that name a number name one that is not in their reviews",
            "Compare some of these with their reviews; if the numbers are made up, take another "
            "model",
            allowed=settings.max_defective_share,
            severity=dg.AssetCheckSeverity.WARN,
            detail="numbers that are not there",
        )
        yield judged(_NUMBERS, rule, report.numbers, report.compared)


def _rule(defect: Defect, settings: QualitySettings) -> Rule:
    """An empty summary is a fault of the pipeline; all else may happen to a good model."""
    is_fault = defect is Defect.EMPTY
    return Rule(
        _TROUBLE[defect],
        _ADVICE[defect],
        allowed=0.0 if is_fault else settings.max_defective_share,
        severity=dg.AssetCheckSeverity.ERROR if is_fault else dg.AssetCheckSeverity.WARN,
        detail="summary",
    )


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
    comparison = CanaryComparison(pipeline.lake)
    for one in pipeline.state.checkpoints(plan):
        if one.state.manifest is not None:
            comparison.add(one.state.planned.recipe, one.state.manifest)
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
