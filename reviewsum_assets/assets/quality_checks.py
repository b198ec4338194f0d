"""Checks of the content of summaries, and of the agreement of the workers that wrote them."""

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
from reviewsum_assets.storage import places

# Per defect: name and description of the check, sentence after the count, advice.
_CHECKS = {
    Defect.EMPTY: (
        "no_empty_summaries",
        "No summary is empty.",
        "summaries are empty",
        "Materialize their checkpoints with `recompute`, then merged_summaries",
    ),
    Defect.TRUNCATED: (
        "whole_sentences",
        "Few summaries break off in mid-sentence: at most `max_defective_share`.",
        "summaries break off in mid-sentence",
        "Raise max_length, which ended them, or choose another model",
    ),
    Defect.REPETITIVE: (
        "no_loops",
        "Few summaries are caught in a loop, one phrase of three words making up an eighth of "
        "their words: at most `max_defective_share`.",
        "summaries repeat one phrase over and over",
        "Raise num_beams, lower min_length, or choose another model",
    ),
    Defect.PLACEHOLDER: (
        "no_placeholders",
        "Few summaries hold marks of the tokenizer, HTML, links or a text such as "
        '"No reviews": at most `max_defective_share`.',
        "summaries hold placeholders, markup or links",
        "Read the reviews of these products: copied text comes from them, any other from a "
        "tokenizer that does not belong to the model",
    ),
    Defect.FOREIGN: (
        "in_english",
        "Few summaries are in other letters than Latin ones, or without any common English word: "
        "at most `max_defective_share`. Not judged if `english_summaries` is false.",
        "summaries are not English",
        "If the reviews are not English, set english_summaries to false; if they are, model and "
        "tokenizer do not belong together",
    ),
    Defect.LENGTH: (
        "sensible_length",
        "Few summaries are shorter than `min_summary_words` or longer than `max_summary_words`: "
        "at most `max_defective_share`.",
        "summaries are too short or too long",
        "Change min_length and max_length, or the bounds min_summary_words and max_summary_words",
    ),
}
_SPECS = {
    defect: dg.AssetCheckSpec(
        name, asset=MERGED_SUMMARIES, blocking=defect is Defect.EMPTY, description=description
    )
    for defect, (name, description, _, _) in _CHECKS.items()
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
    allowed = pipeline.settings.max_defective_share
    plan = plan_of_run(context.instance, context.run, pipeline.lake)
    report = judge_summaries(pipeline.lake, plan, pipeline.settings)
    chosen = context.selected_asset_check_keys
    for defect, (_, _, trouble, advice) in _CHECKS.items():
        if _SPECS[defect].key in chosen:
            # An empty summary is a fault of the pipeline; a good model may have the other defects.
            is_fault = defect is Defect.EMPTY
            rule = Rule(
                trouble,
                advice,
                allowed=0.0 if is_fault else allowed,
                severity=dg.AssetCheckSeverity.ERROR if is_fault else dg.AssetCheckSeverity.WARN,
                detail="summary",
            )
            yield judged(_SPECS[defect], rule, report.defects[defect], report.summaries)
    if _NUMBERS.key in chosen:
        rule = Rule(
            "summaries that name a number name one that is not in their reviews",
            "Compare some of these with their reviews; if the numbers are invented, choose another "
            "model",
            allowed=allowed,
            severity=dg.AssetCheckSeverity.WARN,
            detail="numbers that are not there",
        )
        yield judged(_NUMBERS, rule, report.numbers, report.compared)


_EXCERPT_CHARS = 200

_SPEC = dg.AssetCheckSpec(
    "canary_summaries",
    asset=CHUNK_SUMMARIES,
    blocking=True,
    description="Every worker first summarizes four fixed texts, with the same result as the first "
    "worker, on any GPU, engine and library version. Different words are a warning; below "
    "`min_canary_rouge_l`, nothing is merged.",
)


@dg.multi_asset_check(specs=[_SPEC], name="canary_check")
@fails_plainly
def canary_check(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Compare the workers of all checkpoints of the current plan, by their manifests."""
    return _result_of_plan(pipeline, require_plan(pipeline.lake))


def require_agreeing_canaries(
    context: dg.AssetExecutionContext, pipeline: Pipeline, plan: Plan, *, is_logged: bool
) -> None:
    """Fail where the blocking check would, in a run that does not contain it.

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
    for state, manifest in pipeline.state.manifests(plan):
        comparison.add(state.planned.recipe, manifest)
    return _canary_result(pipeline, comparison)


def log_canaries(
    context: dg.AssetExecutionContext, pipeline: Pipeline, comparison: CanaryComparison
) -> None:
    """Log a run's comparison as an evaluation of the check.

    The check itself needs an output of ``chunk_summaries``, but a run gives none: it logs each
    materialization directly.
    """
    _log(context, _canary_result(pipeline, comparison))


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


def _canary_result(pipeline: Pipeline, comparison: CanaryComparison) -> dg.AssetCheckResult:
    drifts = comparison.drifts()
    least = min((drift.rouge_l for drift in drifts), default=1.0)
    is_fault = least < pipeline.settings.min_canary_rouge_l
    where = pipeline.lake.uri_of(places.CANARY_SUMMARIES)
    silent = f"; {comparison.silent:,} others were not compared" if comparison.silent else ""
    rule = Rule(
        "checkpoints come from workers that summarize the canary texts differently from the first "
        f"one, ROUGE-L {least:.2f} or more",
        "Compare the texts and decide which is right: compute the checkpoints of the wrong worker "
        "again with `recompute`, on the machine of the right one; if the first worker, in "
        f"{where}, was wrong, remove that record first. If both are acceptable, lower "
        "min_canary_rouge_l",
        severity=dg.AssetCheckSeverity.ERROR if is_fault else dg.AssetCheckSeverity.WARN,
        subject="worker",
        detail="difference",
        well=f"{comparison.compared:,} checkpoints come from workers that agree{silent}",
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
