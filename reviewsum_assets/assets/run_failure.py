"""Failures as Dagster shows them: the message first, no stack trace, no retry.

Dagster shows the message first on a run's page for ``dg.Failure`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, ParamSpec, TypeVar

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.display import link_metadata
from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.compute import RunningJob
from reviewsum_assets.compute.failures import FailureKind, JobFailure
from reviewsum_assets.errors import ReviewsumError, first_names

P = ParamSpec("P")
T = TypeVar("T")


def fails_plainly(compute: Callable[P, T]) -> Callable[P, T]:
    """Turn errors of this package into failures, for the function of an asset or a check.

    The error remains the failure's context and is not shown as its cause.
    """

    def plain(error: ReviewsumError) -> dg.Failure:
        metadata = {"error": type(error).__name__}
        return dg.Failure(description=str(error), metadata=metadata, allow_retries=False)

    if isgeneratorfunction(compute):

        @wraps(compute)
        def generate(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            try:
                yield from compute(*args, **kwargs)
            except ReviewsumError as error:
                raise plain(error) from None

        # What a generator function returns is its iterator, which T stands for here.
        return generate  # type: ignore[return-value]

    @wraps(compute)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return compute(*args, **kwargs)
        except ReviewsumError as error:
            raise plain(error) from None

    return call


def skips_on_error(evaluate: Callable[P, T]) -> Callable[P, T | dg.SkipReason]:
    """Turn errors of this package into skip reasons, shown without a stack trace, of a sensor."""

    @wraps(evaluate)
    def call(*args: P.args, **kwargs: P.kwargs) -> T | dg.SkipReason:
        try:
            return evaluate(*args, **kwargs)
        except ReviewsumError as error:
            return dg.SkipReason(f"failed: {error}")

    return call


def not_landed(
    *,
    failure: JobFailure,
    missing: Mapping[int, PlannedCheckpoint],
    reasons: Mapping[int, str],
    requested: int,
    recompute: bool,
    job: RunningJob | None,
    usd: float,
) -> dg.Failure:
    """Failure of a run without some of its requested checkpoints.

    Args:
        failure: reason why the run gave up.
        missing: checkpoints that did not land, by number.
        reasons: the job's reasons, by number of the checkpoint.
        requested: number of checkpoints that were requested.
        recompute: whether the run was to compute valid checkpoints again.
        job: the last one that the run followed, if any.
        usd: cost of its jobs.
    """
    # Only a re-execution knows which checkpoints remain to be computed again.
    go_on = "re-execute this run" if recompute else "launch refresh again (`reviewsum run`)"
    is_left = failure.kind is FailureKind.BUDGET
    default = "still pending" if is_left else "it did not land"
    why = {planned.partition_key: reasons.get(n, default) for n, planned in missing.items()}
    return dg.Failure(
        description=(
            f"{len(why)} of {requested} requested checkpoints did not "
            f"land ({failure.kind.value}: {failure.reason}). "
            f"{first_names([f'{key}: {reason}' for key, reason in why.items()], '; ')}. "
            f"What to do: {failure.advice}. Checkpoints "
            f"that landed are kept: {go_on} to compute the rest.{job_links(job)}"
        ),
        metadata={
            "failure": failure.kind.value,
            "reason": failure.reason,
            "what_to_do": failure.advice,
            "landed": requested - len(why),
            "missing": len(why),
            "missing_checkpoints": display.table(["checkpoint", "reason"], why.items()),
            "usd": usd,
            **_job_metadata(job),
        },
        allow_retries=False,
    )


def job_links(job: RunningJob | None) -> str:
    """Links to a job and its log, for the end of a message."""
    return "".join(f" {name}: {link}" for name, link in (job.links if job else {}).items())


def _job_metadata(job: RunningJob | None) -> dict[str, Any]:
    if job is None:
        return {}
    return {
        "job": job.spec.name,
        **link_metadata(job.links),
        # A fence within the log would end the block, and the rest would be shown as Markdown.
        "job_log_tail": dg.MetadataValue.md(f"```\n{job.log_tail().replace('```', '` ` `')}\n```"),
    }
