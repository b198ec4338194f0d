"""Deals the checkpoints of a job to its workers, and stops before the job's budget is exceeded.

Leases in progress always finish, so a job that reaches its budget ends at a checkpoint boundary.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.job.progress import ProgressReporter
from reviewsum_assets.job.spec import JobSpec

# English review text has four to five characters per token of Pegasus' vocabulary: 629 chunks of
# the sample dump, 4.3. The lower figure makes more chunks of a text, so predicts more seconds.
_CHARS_PER_TOKEN = 4
_LEASES_PER_CHECKPOINT = 2
Outcome = Literal["landed", "valid", "failed"]


@dataclass
class BudgetKeeper:
    """Measures the pace of a job, and compares it with the rest of the budget in seconds.

    Without a budget every lease fits. ``seconds_before`` of the budget are already spent.
    """

    spec: JobSpec
    seconds_before: float = 0.0
    _started: float = field(init=False)
    _worker_seconds: float = 0.0
    _products: int = 0
    _reached_after: float | None = None

    def __post_init__(self) -> None:
        self._started = monotonic() - self.seconds_before

    @property
    def is_reached(self) -> bool:
        """Whether a lease was refused; none is dealt afterwards."""
        return self._reached_after is not None

    def fits(self, lease: Sequence[PlannedCheckpoint]) -> bool:
        """Return whether a worker that starts on ``lease`` now ends within the budget."""
        budget = self.spec.budget
        if budget is None:
            return True
        elapsed = monotonic() - self._started
        if elapsed + self.expected_seconds(lease) > budget.max_seconds:
            self._reached_after = elapsed
        return not self.is_reached

    def measured(self, planned: PlannedCheckpoint, worker_seconds: float) -> None:
        """Learn from a checkpoint that landed after so many seconds of one worker."""
        self._worker_seconds += worker_seconds
        self._products += planned.products

    def expected_seconds(self, lease: Sequence[PlannedCheckpoint]) -> float:
        """Predict one worker's seconds for ``lease``: by this job's measurements if there are any.

        Loading the model is excluded: it ends before anything is measured.
        """
        if self._products:
            products = sum(planned.products for planned in lease)
            return products * self._worker_seconds / self._products
        chunks = sum(
            planned.products * (self.spec.chunks_per_product or self._full_chunks(planned))
            for planned in lease
        )
        return chunks * (self.spec.seconds_per_chunk or 0.0)

    def sentence(self, landed: int, pending: int) -> str:
        """Describe the end of the job; empty unless the budget leaves work pending."""
        if self.spec.budget is None or self._reached_after is None or not pending:
            return ""
        return (
            f"the budget ({self.spec.budget.reason}) left no room for another checkpoint after "
            f"{self._reached_after:,.0f} s: {landed} landed and are kept, {pending} stay pending"
        )

    def _full_chunks(self, planned: PlannedCheckpoint) -> int:
        """Count the chunks of a product with the longest text."""
        settings = self.spec.recipes[planned.recipe].settings
        return math.ceil(settings.window_chars / (_CHARS_PER_TOKEN * settings.chunk_tokens))


class Dealer:
    """The state of every checkpoint of a job; ``unfinished`` is by number."""

    def __init__(
        self, pending: Iterable[PlannedCheckpoint], reporter: ProgressReporter, keeper: BudgetKeeper
    ) -> None:
        self.reporter = reporter
        self.landed: set[int] = set()
        self.valid: set[int] = set()
        self.failed: dict[int, str] = {}
        self.unfinished = {planned.number: planned for planned in pending}
        self.pool_products = 1
        self._keeper = keeper
        self._pending = deque(self.unfinished.values())
        self._leases: Counter[int] = Counter()

    @property
    def has_work(self) -> bool:
        """Whether a lease can be dealt now."""
        return bool(self._pending) and not self._keeper.is_reached

    def next_lease(self, held: Collection[int], workers: int) -> tuple[PlannedCheckpoint, ...]:
        """Deal the next checkpoints of one recipe that make a pool worth batching.

        The worker has not finished the checkpoints ``held``. Towards the end, leases become
        smaller, so that all ``workers`` end at about the same time. Empty if the budget has no
        room; there is no work afterwards.
        """
        left = sum(planned.products for planned in self._pending)
        enough = min(self.pool_products, left / (2 * workers))
        lease: list[PlannedCheckpoint] = []
        for planned in self._pending:
            is_full = sum(leased.products for leased in lease) >= enough
            if lease and (is_full or lease[0].recipe != planned.recipe):
                break
            if lease and (self._leases[lease[0].number] or self._leases[planned.number]):
                break  # a suspect of a worker's death goes alone
            lease.append(planned)
        before = [self.unfinished[number] for number in held if number in self.unfinished]
        if not self._keeper.fits([*before, *lease]):
            return ()
        for planned in lease:
            self._pending.popleft()
            self._leases[planned.number] += 1
        return tuple(lease)

    def finish(self, number: int, outcome: Outcome, message: str, seconds: float = 0.0) -> None:
        """Record the end of a checkpoint.

        It landed after so many ``seconds`` of one worker, was valid before it was generated, or
        failed for the reason in ``message`` and is not tried again.
        """
        planned = self.unfinished.pop(number, None)
        if planned is None:
            return
        if outcome == "landed":
            self.landed.add(number)
            self._keeper.measured(planned, seconds)
            self.reporter.checkpoint_landed(number, message)
        elif outcome == "valid":
            self.valid.add(number)
            self.reporter.landed.add(number)
        else:
            self.failed[number] = message
            self.reporter.report(f"{planned.partition_key} failed: {message}", logging.ERROR)

    def take_back(self, held: Collection[int], suspects: Collection[int], reason: str) -> None:
        """Deal a dead worker's checkpoints again, or give up those that were dealt before.

        Of the checkpoints ``held``, the ``suspects`` may have caused its death; the others were
        read or written.
        """
        for number in sorted(self.unfinished.keys() & set(held), reverse=True):
            if number not in suspects:
                self._leases[number] -= 1
            if self._leases[number] < _LEASES_PER_CHECKPOINT:
                self._pending.appendleft(self.unfinished[number])
            else:
                self.finish(number, "failed", reason)

    def give_up(self, reason: str) -> None:
        """Fail all unfinished checkpoints."""
        self._pending.clear()
        for number in sorted(self.unfinished):
            self.finish(number, "failed", reason)
