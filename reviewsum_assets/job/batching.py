"""The size of a batch: as large as the device's memory holds, which only a failure can tell.

A batch is measured in padded source tokens: rows times the length of the longest row.
"""

from __future__ import annotations

import math

# After a failure while no size is known to work. A quarter: few failures until one works, and
# growth from there costs no more than a batch per step.
_REDUCTION = 4
# Growth ends when the smallest size known to fail is less than this factor away.
_CLOSE_ENOUGH = 1.1
# Full batches at a settled size until a size that failed is tried again; doubled when it fails.
_BATCHES_UNTIL_RETRY = 100
# Full batches after a failure that may grow by one row. Not more: as rows become shorter, one row
# more comes close to the size that failed again and again.
_ROW_TRIALS = 5


class BatchBudget:
    """The largest batch to try next, learned from what worked and what ran out of memory.

    A failure reduces the budget once per batch. Batches that work then raise it, by bisection,
    to just below the smallest size that failed. Much later that size is tried again, since the
    memory may have been held by another process that has ended.

    Args:
        tokens: the budget to begin with, in padded source tokens; never exceeded.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._most = tokens
        self._works = 0  # the largest size that worked since a size this small failed
        self._fails: int | None = None  # the smallest size that failed
        self._retries = False  # whether a size that failed is tried again
        self._full_batches = 0  # since the last failure or retry
        self._patience = _BATCHES_UNTIL_RETRY

    def rows(self, longest: int) -> int:
        """Rows of a batch whose longest row has so many tokens; one row is always allowed."""
        return max(1, self.tokens // longest)

    def ran_out_of_memory(self, rows: int, longest: int) -> None:
        """Reduce the budget after a batch of this size failed."""
        size = rows * longest
        self._fails = size if self._fails is None else min(self._fails, size)
        if self._works >= self._fails:  # less memory is left than before
            self._works = 0
        self.tokens = self._works or max(1, size // _REDUCTION)
        if self._retries:
            self._patience *= 2
        self._retries = False
        self._full_batches = 0

    def worked(self, rows: int, longest: int) -> None:
        """Raise the budget after a batch of this size worked, if it was full."""
        size = rows * longest
        self._works = max(self._works, size)
        if self._fails is None or rows < self.rows(longest):
            return
        if size + longest > self._most:  # nothing larger is ever asked for
            self._fails, self._retries = None, False
            return
        self._full_batches += 1
        if size >= self._fails:  # what failed before works now: where it fails is unknown
            self._fails, self._retries = _REDUCTION * self._most, False
        untried = int(self._fails / _CLOSE_ENOUGH)
        wanted = min(math.isqrt(self._works * self._fails), untried)
        if self._full_batches > self._patience:
            self._retries, self._full_batches = True, 0
            wanted = max(self._fails, size + longest)
        elif self._full_batches <= _ROW_TRIALS and size + longest <= untried:
            # A batch grows by whole rows, so that the middle may be out of reach.
            wanted = max(wanted, size + longest)
        self.tokens = min(max(self.tokens, wanted), self._most)
