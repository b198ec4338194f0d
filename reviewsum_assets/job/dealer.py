"""Keeps a job within its budget: whether one more lease can end before the budget does.

Leases in progress always finish, so a job that reaches its budget ends at a checkpoint boundary.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.job.progress import ProgressReporter
from reviewsum_assets.job.spec import JobSpec

# English review text has four to five characters a token of Pegasus' vocabulary: 629 chunks of
# the sample dump, 4.3. The lower figure makes more chunks of a text, so predicts more seconds.
_CHARS_A_TOKEN = 4


@dataclass
class BudgetKeeper:
    """Follows how fast a job is and how much of its budget is left.

    Args:
        spec: budget and prediction are taken from it; without a budget everything fits.
        clock: seconds, as ``time.monotonic``.
        seconds_before: what of the budget was spent before this object was made.
    """

    spec: JobSpec
    clock: Callable[[], float] = time.monotonic
    seconds_before: float = 0.0
    _started: float = field(init=False)
    _worker_seconds: float = 0.0
    _products: int = 0
    _reached_after: float | None = None

    def __post_init__(self) -> None:
        self._started = self.clock() - self.seconds_before

    @property
    def is_reached(self) -> bool:
        """Whether a lease was refused; none is dealt from then on."""
        return self._reached_after is not None

    def fits(self, lease: Sequence[PlannedCheckpoint]) -> bool:
        """Whether a worker that starts on ``lease`` now ends within the budget."""
        budget = self.spec.budget
        if budget is None:
            return True
        elapsed = self.clock() - self._started
        if elapsed + self.expected_seconds(lease) > budget.max_seconds:
            self._reached_after = elapsed
        return not self.is_reached

    def measured(self, planned: PlannedCheckpoint, worker_seconds: float) -> None:
        """Learn from a checkpoint that landed what one worker needs."""
        self._worker_seconds += worker_seconds
        self._products += planned.products

    def expected_seconds(self, lease: Sequence[PlannedCheckpoint]) -> float:
        """What one worker needs for ``lease``: as measured in this job, before that as predicted.

        Loading the model is not part of it: that is paid before anything is measured.
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
        """What became of the job, for people; empty unless work is left for want of budget."""
        if self.spec.budget is None or self._reached_after is None or not pending:
            return ""
        return (
            f"the budget ({self.spec.budget.reason}) left no room for another checkpoint after "
            f"{self._reached_after:,.0f} s: {landed} landed and are kept, {pending} stay pending"
        )

    def _full_chunks(self, planned: PlannedCheckpoint) -> int:
        """Chunks of a product whose text is as long as is read."""
        settings = self.spec.recipes[planned.recipe].settings
        return math.ceil(settings.window_chars / (_CHARS_A_TOKEN * settings.chunk_tokens))


_LEASES_A_CHECKPOINT = 2


class Dealer:
    """Knows what is still to be done, and what became of the rest; ``unfinished`` is by number."""

    def __init__(
        self,
        pending: list[PlannedCheckpoint],
        reporter: ProgressReporter,
        keeper: BudgetKeeper,
    ) -> None:
        self.reporter = reporter
        self.landed: set[int] = set()
        self.skipped: set[int] = set()
        self.failed: dict[int, str] = {}
        self.unfinished = {planned.number: planned for planned in pending}
        self.pool_products = 1
        self._keeper = keeper
        self._pending = deque(pending)
        self._leases: Counter[int] = Counter()

    @property
    def has_work(self) -> bool:
        """Whether a worker could be given a lease now."""
        return bool(self._pending) and not self._keeper.is_reached

    def next_lease(self, held: Collection[int], workers: int) -> tuple[PlannedCheckpoint, ...]:
        """The next checkpoints of one recipe that make a pool worth batching.

        Empty if the budget has no room for them; there is no work from then on.

        Args:
            held: numbers of the checkpoints that the worker is still busy with.
            workers: that share what is left; towards the end, leases become smaller, so that all
                workers end at about the same time.
        """
        left = sum(planned.products for planned in self._pending)
        enough = min(self.pool_products, left / (2 * workers))
        lease: list[PlannedCheckpoint] = []
        for planned in self._pending:
            is_full = sum(leased.products for leased in lease) >= enough
            if lease and (is_full or not self._go_together(lease[0], planned)):
                break
            lease.append(planned)
        if not self._keeper.fits(
            [*(self.unfinished[n] for n in held if n in self.unfinished), *lease]
        ):
            return ()
        for planned in lease:
            self._pending.popleft()
            self._leases[planned.number] += 1
        return tuple(lease)

    def _go_together(self, first: PlannedCheckpoint, other: PlannedCheckpoint) -> bool:
        """Whether one lease may hold both; what a worker died of goes alone, to take none along."""
        was_leased = self._leases[first.number] or self._leases[other.number]
        return first.recipe == other.recipe and not was_leased

    def land(self, number: int, message: str, seconds: float) -> None:
        """Note a committed checkpoint, into which a worker put so many seconds."""
        planned = self.unfinished.pop(number, None)
        if planned is not None:
            self.landed.add(number)
            self._keeper.measured(planned, seconds)
            self.reporter.checkpoint_landed(number, message)

    def skip(self, number: int) -> None:
        """Note a checkpoint that was valid when its turn came."""
        if self.unfinished.pop(number, None) is not None:
            self.skipped.add(number)
            self.reporter.landed.add(number)

    def fail(self, number: int, reason: str) -> None:
        """Note a checkpoint that this job gives up."""
        planned = self.unfinished.pop(number, None)
        if planned is not None:
            self.failed[number] = reason
            self.reporter.error(f"{planned.partition_key} failed: {reason}")

    def take_back(self, held: Collection[int], suspects: Collection[int], reason: str) -> None:
        """A worker died: deal its checkpoints again, or give up those that were dealt before.

        Args:
            held: what it had not reported on.
            suspects: which of these it may have died of: the others it had read, or generated.
            reason: of its death.
        """
        for number in sorted(held, reverse=True):
            if number in self.unfinished:
                if number not in suspects:
                    self._leases[number] -= 1
                if self._leases[number] < _LEASES_A_CHECKPOINT:
                    self._pending.appendleft(self.unfinished[number])
                else:
                    self.fail(number, reason)

    def give_up(self, reason: str) -> None:
        """Fail everything that is left."""
        self._pending.clear()
        for number in sorted(self.unfinished):
            self.fail(number, reason)
