"""Where a job's own objects lie on the lake, below ``processing_jobs/NAME/``."""

from __future__ import annotations

from reviewsum_assets import places


def spec_key(job: str) -> str:
    """What the job computes."""
    return f"{places.PROCESSING_JOBS}/{job}/spec.json"


def taken_over_key(job: str) -> str:
    """Mark of the host that took the job for dead."""
    return f"{places.PROCESSING_JOBS}/{job}/taken_over"


def pipes_context_key(job: str) -> str:
    """What the job is told of the run that started it."""
    return f"{places.PROCESSING_JOBS}/{job}/pipes_context.json"


def message_key(job: str, number: int) -> str:
    """The job's Pipes message with this number; the first has number 1."""
    return f"{places.PROCESSING_JOBS}/{job}/messages/{number}.json"


def hosts_prefix(job: str) -> str:
    """What each host of the job says of itself."""
    return f"{places.PROCESSING_JOBS}/{job}/hosts"


def result_key(job: str, host: str) -> str:
    """How a host that ended by itself ended."""
    return f"{hosts_prefix(job)}/{host}/result.json"


def progress_key(job: str, host: str) -> str:
    """How far a host is."""
    return f"{hosts_prefix(job)}/{host}/progress.json"
