"""Checks of ``merged_summaries`` that read every summary: is it a summary, and is it true."""

from collections.abc import Iterator

import dagster as dg

from reviewsum_assets.assets.check_results import Rule, judged
from reviewsum_assets.assets.checkpoint_plan import plan_of_run
from reviewsum_assets.assets.merged_summaries import merged_summaries
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.checkpoints.quality import Defect, judge_summaries
from reviewsum_assets.settings import QualitySettings

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
        asset=merged_summaries,
        blocking=defect is Defect.EMPTY,
        description=_DESCRIPTIONS[defect],
    )
    for defect, name in _NAMES.items()
}
_NUMBERS = dg.AssetCheckSpec(
    "numbers_from_reviews",
    asset=merged_summaries,
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
