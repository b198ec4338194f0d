"""Deals the checkpoints of a job among its workers, and keeps account of what became of each.

Sharing is dynamic: a worker that is done early takes the next lease. A worker that dies costs
what it had leased, which is dealt once more; a second death fails those checkpoints and no others.
A job with a budget deals no lease that could outlast it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.job.budget import BudgetKeeper
from reviewsum_assets.job.progress import ProgressReporter

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
