"""Lets the steps of a loop overlap: each works on one item while another has the next.

Steps run in threads, so it is worth it only where they leave Python's lock to others, as polars
does. Items keep their order; what a step raises is raised where its item would have come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_END = object()


def fetched_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, the next being fetched while the caller works on the one it has."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, iterator, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(next, iterator, _END)
            yield item  # type: ignore[misc]  # anything but the end is an item


def mapped_ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """``function`` of each item, called while the caller fetches the next or works on the last."""
    with ThreadPoolExecutor(1) as thread:
        earlier: Future[Made] | None = None
        for item in items:
            later = thread.submit(function, item)
            if earlier is not None:
                yield earlier.result()
            earlier = later
        if earlier is not None:
            yield earlier.result()
