from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.job.chunking import BatchBudget

LENGTHS = [300] * 400 + list(range(299, 20, -1)) * 3


def sizes(
    budget: BatchBudget, capacity: int, lengths: Sequence[int] = LENGTHS
) -> tuple[list[int], list[int]]:
    """Sizes of the batches that worked and that failed on a device of this capacity."""
    worked, failed = [], []
    left = list(lengths)
    while left:
        longest = left[0]
        rows = min(budget.rows(longest), len(left))
        if rows * longest > capacity and rows > 1:
            budget.ran_out_of_memory(rows, longest)
            failed.append(rows * longest)
        else:
            budget.worked(rows, longest)
            worked.append(rows * longest)
            left = left[rows:]
    return worked, failed


def test_a_budget_that_fits_is_never_changed() -> None:
    budget = BatchBudget(36_000)
    worked, failed = sizes(budget, 36_000)
    assert max(worked) == 36_000
    assert not failed
    assert budget.tokens == 36_000


def test_one_failure_reduces_the_budget_once_and_it_grows_to_what_the_device_holds() -> None:
    worked, failed = sizes(BatchBudget(36_000), 1_000)
    assert len(failed) < 10
    assert min(worked[10:-1]) >= 700


@given(st.integers(600, 40_000))
def test_failures_are_few_and_batches_come_near_to_any_capacity(capacity: int) -> None:
    worked, failed = sizes(BatchBudget(36_000), capacity)
    assert len(failed) < 10
    assert max(worked) > 0.6 * min(capacity, 36_000)


def test_memory_that_comes_back_is_used_again() -> None:
    budget = BatchBudget(36_000)
    sizes(budget, 1_000)
    settled = budget.tokens
    worked, _ = sizes(budget, 36_000, LENGTHS * 3)
    assert settled <= 1_000
    assert max(worked) > 20_000


def test_memory_that_shrinks_reduces_the_budget_below_what_once_worked() -> None:
    budget = BatchBudget(36_000)
    sizes(budget, 20_000)
    _, failed = sizes(budget, 2_000)
    assert budget.tokens <= 2_000
    assert len(failed) < 10


def test_one_row_is_always_allowed() -> None:
    assert BatchBudget(10).rows(300) == 1


def test_a_size_that_fails_at_the_most_is_tried_ever_less_often() -> None:
    for most in (36_000, 36_100):
        _, failed = sizes(BatchBudget(most), 35_000, [300] * 400_000)
        assert len(failed) < 12
