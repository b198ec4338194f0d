"""The errors a user meets: each says what was wrong and what to do next."""

import io
import sys
from collections.abc import Sequence

from pydantic import ValidationError

_NAMES_IN_A_MESSAGE = 10


def escape_what_terminals_lack() -> None:
    """Print characters that the encoding of standard output or error lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def first_problem(error: ValueError) -> str:
    """The first thing that is wrong with a document, on one line."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, problem["loc"]))
    return " ".join(f"{where} {problem['msg']}".split())


def first_names(
    names: Sequence[str], separator: str = ", ", most: int = _NAMES_IN_A_MESSAGE
) -> str:
    """The first names of what is wrong and how many more there are: messages stay short."""
    more = len(names) - most
    shown = separator.join(names[:most])
    return f"{shown} and {more:,} more" if more > 0 else shown


class ReviewsumError(Exception):
    """Base of every error this package raises on purpose."""


class SettingsError(ReviewsumError):
    """A setting, environment variable or option has a value that cannot work."""


class LakeError(ReviewsumError):
    """An object's place is illegal, or the lake cannot be read or written."""


class DumpError(ReviewsumError):
    """A dump is missing, of unknown format, or holds no readable review."""


class ModelError(ReviewsumError):
    """A model cannot be found, is incomplete, or would need unsafe loading."""


class UnfitModelError(ModelError):
    """Parts of a model do not fit each other or the settings: no worker can use it as it is."""


class PlanError(ReviewsumError):
    """There is no plan, or another planner made one current first."""


class RunInterrupted(ReviewsumError):  # noqa: N818 - not an error: a person pressed Ctrl-C
    """A run was interrupted; what it had finished is kept."""


class CheckpointError(ReviewsumError):
    """Checkpoints that were asked for are missing or invalid."""


class CheckError(ReviewsumError):
    """A blocking asset check failed: what it checked must not be used."""


class JobError(ReviewsumError):
    """A Processing job could not start, or ended without what was asked of it."""


class BenchmarkError(ReviewsumError):
    """A benchmark could not be measured, or the results it compares are not the same."""


class EvaluationError(ReviewsumError):
    """Summaries cannot be evaluated: references, summaries and reviews do not fit together."""
