"""Failures as Dagster shows them: the message first, no stack trace, no retry.

Dagster shows the message first on a run's page for ``dg.Failure`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, ParamSpec, TypeVar

import dagster as dg

from reviewsum_assets.errors import ReviewsumError

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
