"""One process at a time starts a job on a lake, and a killed one holds up no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from reviewsum_assets.compute import launches as module
from reviewsum_assets.compute.launches import start_lock
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.places import JOB_STARTS
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import lake_on


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(module, "_STALE_SECONDS", 0.5)


def hold_together(lake: Lake, starts: int, work: Callable[[], None] = lambda: None) -> list[int]:
    """How many held the lock at the same time, as each of several starters saw it."""
    inside: list[int] = []
    together: list[int] = []

    def start(number: int) -> None:
        with start_lock(lake):
            inside.append(number)
            together.append(len(inside))
            work()
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(starts)))
    return together


def test_one_at_a_time(quick: None, any_lake: Lake) -> None:
    assert hold_together(any_lake, 12) == [1] * 12
    (left,) = any_lake.list(JOB_STARTS)  # a released lock is one small object
    assert any_lake.get(left.key) == b"released"


def test_a_holder_that_works_for_long_keeps_the_lock(quick: None, any_lake: Lake) -> None:
    assert hold_together(any_lake, 3, lambda: time.sleep(1.2)) == [1] * 3


def test_the_lock_of_a_killed_process_is_taken_by_one_of_those_that_wait(
    quick: None, any_lake: Lake
) -> None:
    any_lake.put(f"{JOB_STARTS}/7", b"killed")
    assert hold_together(any_lake, 8) == [1] * 8
    assert [item.key for item in any_lake.list(JOB_STARTS)] == [f"{JOB_STARTS}/15"]


def test_a_holder_that_was_suspended_notices_that_it_lost_the_lock(
    quick: None, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RENEW_SECONDS", 60.0)  # as if it did not run at all
    with start_lock(lake) as suspended:
        assert suspended.is_held()
        with start_lock(lake) as next_one:
            assert next_one.is_held()
            assert not suspended.is_held()
    with start_lock(lake) as later:
        assert later.is_held()


def test_a_lock_is_known_as_ones_own_where_the_answer_was_lost(
    processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_on(processing)
    monkeypatch.setattr(module, "_POLL_SECONDS", -1.0)  # an error: nothing is to be waited for
    processing.faults.lose_response("PUT")
    with start_lock(lake) as lock:
        assert lock.is_held()


def test_a_lake_that_refuses_renewals_for_a_moment_loses_no_lock(
    quick: None, processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, renewed = lake_on(processing), threading.Event()
    with start_lock(lake) as lock:
        processing.faults.s3_errors(500, 2, "PUT", JOB_STARTS)
        renewed.wait(0.4)
        assert lock.is_held()
