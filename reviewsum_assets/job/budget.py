"""Keeps a job within its budget: whether one more lease can end before the budget does.

Leases in progress always finish, so a job that reaches its budget ends at a checkpoint boundary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
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
