"""Results of asset checks: how many of how many, which products, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.checkpoints.quality import Finding

# In a sentence; a table beside it has more.
_NAMED = 3


@dataclass(frozen=True)
class Rule:
    """What a check says of its findings.

    ``trouble`` follows a count, as in "3 of 320 summaries **end in mid-sentence**"; ``advice`` is
    what to do then; ``allowed`` the share of findings up to which all is well; ``subject`` and
    ``detail`` head the table of examples; ``well`` is said in place of a count of none.
    """

    trouble: str
    advice: str
    allowed: float = 0.0
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    subject: str = "product_id"
    detail: str = "what is wrong"
    well: str = ""


def judged(
    spec: dg.AssetCheckSpec, rule: Rule, finding: Finding, total: int
) -> dg.AssetCheckResult:
    """The result of a check that looked at ``total`` rows or products."""
    share = finding.share(total)
    passed = share <= rule.allowed
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=passed,
        severity=rule.severity,
        description=_description(rule, finding, total, passed=passed),
        metadata={
            "found": finding.count,
            "of": total,
            "share": share,
            "allowed_share": rule.allowed,
            **(_named(rule, finding) if finding.count else {}),
        },
    )


def failed_checks(
    instance: dg.DagsterInstance, run_id: str, *, is_blocking: bool
) -> dict[str, str]:
    """What the failed checks of a run say, by asset and check; blocking ones, or the others."""
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


def _description(rule: Rule, finding: Finding, total: int, *, passed: bool) -> str:
    if rule.well and not finding.count:
        return rule.well
    said = f"{finding.count:,} of {total:,} {rule.trouble}"
    if passed:
        return said
    share = f" ({finding.share(total):.1%}; {rule.allowed:.1%} may)" if rule.allowed else ""
    first = ", ".join(name for name, _ in finding.examples[:_NAMED])
    more = f" and {finding.count - _NAMED:,} more" if finding.count > _NAMED else ""
    return f"{said}{share}: {first}{more}. {rule.advice}"


def _named(rule: Rule, finding: Finding) -> dict[str, Any]:
    return {
        "examples": display.table([rule.subject, rule.detail], finding.examples),
        "what_to_do": rule.advice,
    }
