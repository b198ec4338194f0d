"""Who starts a job on a lake does so alone, and nobody waits for the dead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from reviewsum_assets.compute import turns
from reviewsum_assets.compute.turns import turn_to_start
from reviewsum_assets.lake import Lake
from reviewsum_assets.places import JOB_START
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import lake_on


def test_one_at_a_time(any_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PAUSE_SECONDS", 0.01)
    inside: list[int] = []
    together: list[int] = []

    def start(number: int) -> None:
        with turn_to_start(any_lake):
            inside.append(number)
            together.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(12)))
    assert together == [1] * 12
    assert any_lake.get(JOB_START) is None


def test_the_turn_of_a_process_that_was_killed_is_taken_from_it(
    any_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_LONGEST_TURN_SECONDS", 0.2)
    any_lake.put(JOB_START, b"of one that was killed")
    with turn_to_start(any_lake):
        assert any_lake.get(JOB_START) != b"of one that was killed"
    assert any_lake.get(JOB_START) is None


def test_a_turn_is_known_by_who_took_it_where_the_answer_was_lost(
    processing: ProcessingEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_on(processing)
    monkeypatch.setattr(turns, "_PAUSE_SECONDS", -1.0)  # an error: nobody is to be waited for
    processing.faults.lose_response("PUT")
    with turn_to_start(lake):
        assert lake.get(JOB_START)
    assert lake.get(JOB_START) is None


def test_a_turn_that_was_taken_away_is_not_passed_on_by_its_first_owner(lake: Lake) -> None:
    with turn_to_start(lake):
        lake.put(JOB_START, b"of the next")
    assert lake.get(JOB_START) == b"of the next"
