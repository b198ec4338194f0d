"""Backfills, re-executions, cancelled and failed runs: how many jobs, and what partitions show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from reviewsum_assets.assets.partitions import pending_elsewhere
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.assets.conftest import Planned
from tests.support.checkpoints import complete, plan_products, products
from tests.support.partitions import backfill, planned_run, range_tags, shown
from tests.support.pipeline import SmallPipeline, failure

GREEN, RED, MISSING = "MATERIALIZED", "FAILED", "MISSING"
IN_BACKFILL = {"dagster/backfill": "backfill"}


@pytest.fixture
def small(planned: Planned) -> SmallPipeline:
    """Sixteen products in eight checkpoints, planned."""
    return planned(16)


def run_range(
    small: SmallPipeline, first: int, last: int, tags: Mapping[str, str] = IN_BACKFILL
) -> Any:
    return small.execute("summarize", {**range_tags(first, last), **tags})


def jobs(lake: Lake) -> int:
    return len({item.key.split("/")[1] for item in lake.list(places.PROCESSING_JOBS)})


def as_they_lie(lake: Lake, number: int) -> list[object]:
    keys = (places.checkpoint_csv(number), places.checkpoint_manifest(number))
    return [(lake.head(key), lake.get(key)) for key in keys]


def test_a_scattered_selection_is_one_job_and_leaves_what_is_valid(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    complete(lake, require_plan(lake), [3])
    before = as_they_lie(lake, 3)
    backfill(small.instance, [1, 3, 4, 8])
    first = run_range(small, 1, 1)
    assert [n for n, state in shown(small.instance).items() if state == GREEN] == [1, 4, 8]
    others = [run_range(small, *some) for some in ((3, 4), (8, 8))]
    assert all(run.success for run in (first, *others))
    assert jobs(lake) == 1
    assert as_they_lie(lake, 3) == before
    assert shown(small.instance) == {
        n: GREEN if n in (1, 3, 4, 8) else MISSING for n in range(1, 9)
    }
    reused = {
        key: metadata["reused"]
        for run in others
        for key, metadata in small.materializations(run).items()
    }
    assert list(reused.values()) == [True, True, True]


def test_a_run_fails_over_its_own_checkpoint_alone_and_can_be_executed_again(
    small: SmallPipeline,
) -> None:
    lake = small.pipeline.lake
    in_the_way = f"{places.checkpoint_csv(2)}/in the way"
    lake.put(in_the_way, b"")
    backfill(small.instance, [2, 5])
    failed = run_range(small, 2, 2)
    assert "1 of 1 requested checkpoints did not land" in failure(failed)
    assert run_range(small, 5, 5).success
    states = shown(small.instance)
    assert (states[2], states[5]) == (RED, GREEN)
    lake.delete(in_the_way)
    Path(lake.uri, places.checkpoint_csv(2)).rmdir()
    complete(lake, require_plan(lake), [2])
    again = {"dagster/parent_run_id": failed.run_id, "dagster/root_run_id": failed.run_id}
    assert run_range(small, 2, 2, again).success
    assert shown(small.instance)[2] == GREEN
    assert jobs(lake) == 1


class TestWhatIsTakenAlong:
    """Without jobs: what a run's job would take along."""

    @pytest.fixture(autouse=True)
    def _planned(self, instance: dg.DagsterInstance, lake: Lake) -> None:
        plan = plan_products(lake, products(16), checkpoint_size=2).plan
        instance.add_dynamic_partitions("checkpoints", [c.partition_key for c in plan.checkpoints])
        self.instance, self.lake, self.plan = instance, lake, plan

    def taken(self, *requested: int, tags: dict[str, str] = IN_BACKFILL) -> list[int]:
        run = dg.DagsterRun(job_name="summarize", tags=tags)
        asked = [self.plan.checkpoint(number) for number in requested]
        return list(pending_elsewhere(self.instance, self.lake, self.plan, run, asked))

    def test_the_rest_of_the_selection_that_is_not_valid(self) -> None:
        backfill(self.instance, [1, 3, 4, 8])
        complete(self.lake, require_plan(self.lake), [4])
        assert self.taken(1) == [3, 8]

    def test_nothing_outside_a_backfill(self) -> None:
        backfill(self.instance, [1, 3])
        assert self.taken(1, tags={}) == []

    @pytest.mark.parametrize(
        "status", [BulkActionStatus.CANCELING, BulkActionStatus.COMPLETED_FAILED]
    )
    def test_nothing_of_a_backfill_that_has_ended(self, status: BulkActionStatus) -> None:
        found = backfill(self.instance, [1, 3])
        self.instance.update_backfill(found._replace(status=status))
        assert self.taken(1) == []

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (dg.DagsterRunStatus.FAILURE, [8]),
            (dg.DagsterRunStatus.CANCELED, [8]),
            (dg.DagsterRunStatus.NOT_STARTED, [3, 4, 8]),
            (dg.DagsterRunStatus.STARTED, [3, 4, 8]),
        ],
    )
    def test_nothing_that_a_run_has_failed_or_was_cancelled_over(
        self, status: dg.DagsterRunStatus, expected: list[int]
    ) -> None:
        backfill(self.instance, [1, 3, 4, 8])
        planned_run(self.instance, 3, 4, status, **IN_BACKFILL)
        assert self.taken(1) == expected
