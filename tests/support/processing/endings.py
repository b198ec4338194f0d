"""How a job ends: what its exit codes and messages mean to who asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processing.records import Status

_LONGEST_REASON = 1024
_LONGEST_EXIT_MESSAGE = 1024


@dataclass(frozen=True)
class Ending:
    """A job's last status, and why it failed if it did."""

    status: Status
    failure_reason: str | None = None


class JobFailedError(Exception):
    """The job fails, for the reason in the text."""


def failure(reason: str) -> Ending:
    """The job fails, for a reason of at most the documented length."""
    return Ending("Failed", reason[:_LONGEST_REASON])


def ending_of(exit_codes: Sequence[int], *, stopped: bool) -> Ending:
    """The end of a job whose containers have all ended."""
    # The documentation says that a job is stopped when its maximum runtime is over, and users
    # report that it then is Stopped without a reason, as if somebody had stopped it.
    if stopped:
        return Ending("Stopped")
    failed = [code for code in exit_codes if code]
    if not failed:
        return Ending("Completed")
    return failure(f"AlgorithmError: See job logs for more information, exit code: {failed[0]}")


def exit_message(roots: Sequence[Path]) -> str | None:
    """What containers left in their message files: all of them joined, then cut to 1 KB."""
    files = [root / "output" / "message" for root in roots]
    joined = b"".join(file.read_bytes() for file in files if file.is_file())
    try:
        joined.decode()
    except UnicodeDecodeError:
        raise JobFailedError("ClientError: The exit message is not UTF-8 encoded") from None
    return joined[:_LONGEST_EXIT_MESSAGE].decode("utf-8", "ignore") or None
