from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from reviewsum_assets.reviews.readers import fetched_ahead, mapped_ahead


def test_items_keep_their_order() -> None:
    assert list(fetched_ahead(range(100))) == list(range(100))
    assert list(mapped_ahead(str, range(100))) == [str(number) for number in range(100)]


def test_of_nothing_comes_nothing() -> None:
    assert list(fetched_ahead([])) == []
    assert list(mapped_ahead(str, [])) == []


def test_the_next_item_is_fetched_while_the_last_is_worked_on() -> None:
    second_is_fetched = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second_is_fetched.set()
        yield 2

    ahead = fetched_ahead(items())
    assert next(ahead) == 1
    assert second_is_fetched.wait(10)
    assert list(ahead) == [2]


def test_an_item_is_worked_on_while_the_next_is_fetched() -> None:
    first_is_worked_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert first_is_worked_on.wait(10)
        yield 2

    def work(number: int) -> int:
        first_is_worked_on.set()
        return number

    assert list(mapped_ahead(work, items())) == [1, 2]


def test_what_is_raised_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no second item")

    for ahead in (fetched_ahead(items()), mapped_ahead(int, fetched_ahead(items()))):
        found: list[int] = []
        with pytest.raises(ValueError, match="no second item"):
            found.extend(ahead)

    ahead = mapped_ahead(lambda number: 1 // number, [1, 0, 1])
    assert next(ahead) == 1
    with pytest.raises(ZeroDivisionError):
        next(ahead)
