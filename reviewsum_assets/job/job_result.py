"""How a job ended, as each of its hosts leaves it on the lake."""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict, ValidationError

from reviewsum_assets.errors import first_problem
from reviewsum_assets.job.job_objects import hosts_prefix
from reviewsum_assets.lake import Lake

EXIT_OK = 0
EXIT_FAILED = 3
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run it again to finish

_log = logging.getLogger("reviewsum.job")


class JobResult(BaseModel):
    """How a job ended; ``failed`` says why, by checkpoint number."""

    model_config = ConfigDict(frozen=True)

    landed: tuple[int, ...]
    already_valid: tuple[int, ...]
    failed: dict[int, str]
    stopped: bool
    seconds: float
    budget_reached: str = ""  # what was reached and what is left, a sentence

    @property
    def exit_code(self) -> int:
        """0: all landed, or the budget was reached; 3: something failed; 75: a signal came."""
        if self.stopped:
            return EXIT_STOPPED
        return EXIT_FAILED if self.failed else EXIT_OK


def read_result(lake: Lake, job_name: str) -> JobResult | None:
    """The result of a job, that of all its hosts together; None if no host ended by itself.

    One that cannot be read is logged and left out: what landed, the checkpoints tell.
    """
    listed = [item.key for item in lake.list(hosts_prefix(job_name))]
    keys = [key for key in listed if key.endswith("/result.json")]
    results: list[JobResult] = []
    for key, content in zip(keys, lake.get_many(keys), strict=True):
        try:
            results.append(JobResult.model_validate_json(content or b""))
        except ValidationError as error:
            _log.warning("%s cannot be read: %s", lake.uri_of(key), first_problem(error))
    if not results:
        return None
    return JobResult(
        landed=tuple(sorted(n for result in results for n in result.landed)),
        already_valid=tuple(sorted(n for result in results for n in result.already_valid)),
        failed={n: why for result in results for n, why in result.failed.items()},
        stopped=any(result.stopped for result in results),
        seconds=max(result.seconds for result in results),
        budget_reached="; ".join(
            result.budget_reached for result in results if result.budget_reached
        ),
    )


def death(exit_code: int | None) -> str:
    """How a process ended that said nothing: negative codes are signals, as in subprocess."""
    if exit_code is not None and exit_code < 0:
        hint = ", as the kernel does when memory runs out" if exit_code == -9 else ""
        return f"its process was killed by signal {-exit_code}{hint}"
    return f"its process ended with code {exit_code}"
