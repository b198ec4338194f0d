"""Checks of the content of summaries, and of the agreement of the workers that wrote them."""

from collections.abc import Iterator

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import plan_of_run
from reviewsum_assets.assets.checks import Rule, chosen
from reviewsum_assets.assets.display import shortened
from reviewsum_assets.assets.partitions import CHUNK_SUMMARIES, MERGED_SUMMARIES
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.plan import Plan, require_plan
from reviewsum_assets.checkpoints.quality import MOST_EXAMPLES, Defect, Finding, judge_summaries
from reviewsum_assets.errors import CheckError
from reviewsum_assets.evaluation.canaries import CanaryComparison
from reviewsum_assets.storage import places

_EXCERPT_CHARS = 200

# Name, description, trouble and advice of the check for each defect.
_TEXTS = {
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
# An empty summary is a fault of the pipeline; a good model may have the other defects.
_DEFECTS = {
    defect: Rule(MERGED_SUMMARIES, *texts, blocking=defect is Defect.EMPTY, detail="summary")
    for defect, texts in _TEXTS.items()
}
_NUMBERS = Rule(
    MERGED_SUMMARIES,
    "numbers_from_reviews",
    "Few summaries name a number that is not in the reviews they were made from: at most "
    "`max_defective_share` of those that name any.",
    "summaries that name a number name one that is not in their reviews",
    "Compare some of these with their reviews; if the numbers are invented, choose another model",
    detail="numbers that are not there",
)


@dg.multi_asset_check(
    specs=[rule.spec for rule in (*_DEFECTS.values(), _NUMBERS)],
    name="summary_quality_checks",
    can_subset=True,
)
@fails_plainly
def summary_quality_checks(
    context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> Iterator[dg.AssetCheckResult]:
    """Read the merged table once, and the reviews of what names a number."""
    allowed = pipeline.settings.max_defective_share
    plan = plan_of_run(context.instance, context.run, pipeline.lake)
    report = judge_summaries(pipeline.lake, plan, pipeline.settings)
    results = [
        rule.judge(
            report.defects[defect], report.summaries, allowed=0.0 if rule.blocking else allowed
        )
        for defect, rule in _DEFECTS.items()
    ]
    results.append(_NUMBERS.judge(report.numbers, report.compared, allowed=allowed))
    yield from chosen(context, results)


_CANARIES = Rule(
    CHUNK_SUMMARIES,
    "canary_summaries",
    "Every worker first summarizes four fixed texts, with the same result as the first worker, on "
    "any GPU, engine and library version. Different words are a warning; below "
    "`min_canary_rouge_l`, nothing is merged.",
    "checkpoints come from workers that summarize the canary texts differently from the first one",
    "Compare the texts and decide which is right: compute the checkpoints of the wrong worker "
    "again with `recompute`, on the machine of the right one; if the first worker, in "
    f"{places.CANARY_SUMMARIES}/ of the lake, was wrong, remove that record first. If both are "
    "acceptable, lower min_canary_rouge_l",
    blocking=True,
    subject="worker",
    detail="difference",
)


@dg.multi_asset_check(specs=[_CANARIES.spec], name="canary_check")
@fails_plainly
def canary_check(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Compare the workers of all checkpoints of the current plan, by their manifests."""
    return _canaries_of_plan(pipeline, require_plan(pipeline.lake))


def require_agreeing_canaries(
    context: dg.AssetExecutionContext, pipeline: Pipeline, plan: Plan, *, is_logged: bool
) -> None:
    """Fail where the blocking check would, in a run that does not contain it.

    Raises:
        CheckError: workers are farther apart than ``min_canary_rouge_l`` allows.
    """
    result = _canaries_of_plan(pipeline, plan)
    if is_logged:
        _log(context, result)
    if not result.passed and result.severity is dg.AssetCheckSeverity.ERROR:
        raise CheckError(f"{_CANARIES.name}: {result.description}")


def log_canaries(
    context: dg.AssetExecutionContext, pipeline: Pipeline, comparison: CanaryComparison
) -> None:
    """Log a run's comparison as an evaluation of the check.

    The check itself needs an output of ``chunk_summaries``, but a run gives none: it logs each
    materialization directly.
    """
    _log(context, _judge_canaries(pipeline, comparison))


def _log(context: dg.AssetExecutionContext, result: dg.AssetCheckResult) -> None:
    if not result.passed:
        context.log.warning(result.description or "")
    context.log_event(
        dg.AssetCheckEvaluation(
            asset_key=_CANARIES.asset,
            check_name=_CANARIES.name,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
        )
    )


def _canaries_of_plan(pipeline: Pipeline, plan: Plan) -> dg.AssetCheckResult:
    comparison = CanaryComparison(pipeline.lake)
    for state, manifest in pipeline.state.manifests(plan):
        comparison.add(state.planned.recipe, manifest)
    return _judge_canaries(pipeline, comparison)


def _judge_canaries(pipeline: Pipeline, comparison: CanaryComparison) -> dg.AssetCheckResult:
    drifts = comparison.drifts()
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
    least = min((drift.rouge_l for drift in drifts), default=1.0)
    return _CANARIES.judge(
        Finding(sum(drift.checkpoints for drift in drifts), examples),
        comparison.compared,
        is_fault=least < pipeline.settings.min_canary_rouge_l,
        note=f"; {comparison.silent:,} others were not compared" if comparison.silent else "",
    )
