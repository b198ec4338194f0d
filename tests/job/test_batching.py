from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.job.batching import batches

lengths = st.lists(st.integers(1, 500), max_size=60)


@given(lengths, st.integers(1, 4000))
def test_every_item_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    dealt = [index for batch in batches(lengths, budget) for index in batch]
    assert sorted(dealt) == list(range(len(lengths)))


@given(lengths, st.integers(1, 4000))
def test_padded_batches_stay_within_the_budget_unless_one_row_is_larger(
    lengths: list[int], budget: int
) -> None:
    for batch in batches(lengths, budget):
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= budget or len(batch) == 1


def test_the_longest_come_first_and_equals_keep_their_order() -> None:
    assert list(batches([5, 9, 5, 7], 18)) == [[1, 3], [0, 2]]
