from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from reviewsum_assets.storage import locks
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.locks import exclusive
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import lake_on

LOCK = "job_starts"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.5)


def hold_together(lake: Lake, starts: int, work: Callable[[], None] = lambda: None) -> list[int]:
    """How many held the lock at the same time, as each of several starters saw it."""
    inside: list[int] = []
    together: list[int] = []

    def start(number: int) -> None:
        with exclusive(lake, LOCK):
            inside.append(number)
            together.append(len(inside))
            work()
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(starts)))
    return together


def test_one_process_at_a_time_holds_a_lock(quick: None, any_lake: Lake) -> None:
    assert hold_together(any_lake, 12) == [1] * 12
    (left,) = any_lake.list(LOCK)  # a released lock is one small object
    assert any_lake.get(left.key) == b"released"


def test_a_holder_that_works_for_long_keeps_the_lock(quick: None, any_lake: Lake) -> None:
    assert hold_together(any_lake, 2, lambda: time.sleep(0.8)) == [1] * 2


def test_the_lock_of_a_killed_process_is_taken_by_one_of_those_that_wait(
    quick: None, any_lake: Lake
) -> None:
    any_lake.put(f"{LOCK}/7", b"killed")
    assert hold_together(any_lake, 8) == [1] * 8
    assert [item.key for item in any_lake.list(LOCK)] == [f"{LOCK}/15"]


def test_a_holder_that_was_suspended_notices_that_it_lost_the_lock(
    quick: None, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEW_SECONDS", 60.0)  # as if it did not run at all
    with exclusive(lake, LOCK) as suspended:
        assert suspended.is_held()
        with exclusive(lake, LOCK) as next_one:
            assert next_one.is_held()
            assert not suspended.is_held()
    with exclusive(lake, LOCK) as later:
        assert later.is_held()


def test_a_lock_is_recognized_as_ones_own_when_the_answer_was_lost(
    processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_on(processing)
    monkeypatch.setattr(locks, "_POLL_SECONDS", -1.0)  # an error: there is nothing to wait for
    processing.faults.lose_response("PUT")
    with exclusive(lake, LOCK) as lock:
        assert lock.is_held()


def test_a_lake_that_refuses_renewals_for_a_moment_loses_no_lock(
    quick: None, processing: ProcessingEmulator
) -> None:
    lake, renewed = lake_on(processing), threading.Event()
    with exclusive(lake, LOCK) as lock:
        processing.faults.s3_errors(500, 2, "PUT", LOCK)
        renewed.wait(0.4)
        assert lock.is_held()
