"""Two runs at once on one lake, of other dumps or settings: each does its own, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from reviewsum_assets.assets import checkpoint_plan, partitions
from reviewsum_assets.assets.pipeline import Pipeline, StageProgress
from reviewsum_assets.checkpoints.plan import read_table, require_plan
from reviewsum_assets.cli.local_run import materialize_pending
from reviewsum_assets.errors import PlanError
from reviewsum_assets.reviews.grouped import current_grouped_reviews, scan_too_few
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete
from tests.support.pipeline import SmallPipeline, failure, texts, write_dump

OTHER = {f"other {name}": text for name, text in texts(3).items()}


@pytest.fixture
def small(instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path) -> SmallPipeline:
    """The run that is watched; its dump has three products."""
    dump = write_dump(tmp_path / "dump.csv", texts(3))
    return SmallPipeline.build(instance, lake, pegasus, dump)


@pytest.fixture
def other(small: SmallPipeline, tmp_path: Path) -> SmallPipeline:
    """A run of another dump on the same lake."""
    dump = write_dump(tmp_path / "other.csv", OTHER)
    return small.with_settings(dumps=(str(dump),))


def after_step(monkeypatch: pytest.MonkeyPatch, step: str, happens: Callable[[], object]) -> None:
    """Have something happen when the first run has finished a step, or ``PIPELINE_SUCCESS``."""
    handle, seen = dg.DagsterInstance.handle_new_event, []

    def handling(self: dg.DagsterInstance, event: Any, **options: Any) -> Any:
        handle(self, event, **options)
        found = event.dagster_event
        if (
            found is not None
            and (found.step_key or found.event_type_value) == step
            and found.event_type_value in ("STEP_SUCCESS", "PIPELINE_SUCCESS")
        ):
            seen.append(event.run_id)
            if len(seen) == 1:
                happens()

    monkeypatch.setattr(dg.DagsterInstance, "handle_new_event", handling)


def planned(lake: Lake) -> set[str]:
    table = read_table(lake, require_plan(lake))
    return set(table.filter("selected")["product_id"])


def test_a_run_does_not_plan_what_another_one_has_grouped(
    small: SmallPipeline, other: SmallPipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step(monkeypatch, "grouped_reviews", lambda: group_reviews(lake, other.pipeline.settings))
    said = failure(small.refresh())
    assert "another run has grouped other dumps, or with other settings" in said
    assert "launch refresh again" in said
    assert lake.list(places.PLANS) == []


@pytest.mark.parametrize("change", ["dumps", "top_k"])
def test_a_run_does_not_compute_what_another_one_has_planned(
    small: SmallPipeline,
    other: SmallPipeline,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    if change == "top_k":
        other = small.with_settings(top_k=2)
    ended: list[Any] = []
    after_step(monkeypatch, "checkpoint_plan", lambda: ended.append(other.execute("ingest")))
    said = failure(small.refresh())
    assert ended[0].success
    assert (
        "another run made plan 2 current, from other dumps or settings or for another model: "
        "launch refresh again"
    ) in said
    assert lake.list(places.CHECKPOINT_MANIFESTS) == lake.list(places.PROCESSING_JOBS) == []
    assert planned(lake) == (set(OTHER) if change == "dumps" else {"P000", "P001"})


def test_another_run_of_the_same_dumps_and_settings_is_no_obstacle(
    small: SmallPipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_EVENTS_AT_A_TIME", 1)
    ended: list[Any] = []
    after_step(monkeypatch, "checkpoint_plan", lambda: ended.append(small.execute("ingest")))
    run = small.refresh()
    assert run.success and ended[0].success
    assert (lake.get(places.MERGED_CSV) or b"").count(b"\n") == 4


def test_a_run_does_not_merge_once_another_one_has_planned(
    small: SmallPipeline, other: SmallPipeline, lake: Lake
) -> None:
    def on_progress(progress: StageProgress) -> None:
        if progress.stage == "chunk_summaries" and not ended:
            ended.append(other.execute("ingest"))

    ended: list[Any] = []
    watched = SmallPipeline(small.instance, Pipeline(small.pipeline.settings, on_progress))
    assert "another run made plan 2 current" in failure(watched.refresh())
    assert ended[0].success
    assert lake.get(places.MERGED_CSV) is None
    assert len(lake.list(places.CHECKPOINT_MANIFESTS)) == 2  # what it had begun is kept


def test_a_run_that_goes_on_from_another_one_needs_the_plan_of_that_one(
    small: SmallPipeline, other: SmallPipeline, instance: dg.DagsterInstance
) -> None:
    first = small.execute("ingest")
    goes_on = {"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id}
    assert other.execute("ingest").success
    assert "another run made plan 2 current" in failure(small.execute("merge", goes_on))
    # A run for itself takes the plan that is current, and only its checkpoints are missing.
    assert "2 of 2 checkpoints cannot be merged" in failure(small.execute("merge"))


def test_a_single_step_does_not_plan_other_dumps_than_its_settings_name(
    small: SmallPipeline, other: SmallPipeline, lake: Lake
) -> None:
    group_reviews(lake, other.pipeline.settings)
    run = dg.materialize(
        [checkpoint_plan.checkpoint_plan],
        instance=small.instance,
        resources={"pipeline": small.pipeline},
        raise_on_error=False,
    )
    assert "the grouped reviews on this lake were made from other dumps" in failure(run)
    assert lake.list(places.PLANS) == []


def test_tables_that_another_run_removes_while_a_plan_is_made_are_explained(
    small: SmallPipeline, other: SmallPipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scanning(*arguments: Any) -> Any:
        group_reviews(lake, other.pipeline.settings)
        return scan_too_few(*arguments)

    monkeypatch.setattr(checkpoint_plan, "scan_too_few", scanning)
    said = failure(small.execute("ingest"))
    assert "another run has grouped other dumps" in said
    assert lake.list(places.PLANS) == []


def test_of_two_groupings_at_once_the_last_removes_the_tables_of_the_other(
    small: SmallPipeline, other: SmallPipeline, lake: Lake
) -> None:
    def on_progress(_: object) -> None:
        if not ended:
            ended.append(group_reviews(lake, other.pipeline.settings))

    ended: list[Any] = []
    record, _ = group_reviews(lake, small.pipeline.settings, on_progress)
    assert current_grouped_reviews(lake) == record
    tables = [item.key for item in lake.list(f"{places.GROUPED_REVIEWS}/tables")]
    assert tables == list(record.tables)


@pytest.mark.parametrize(
    ("only_groups", "said"),
    [
        (False, "another run made plan 2 current"),
        (True, "on this lake since this one ended"),
    ],
)
def test_the_report_of_a_run_is_not_of_what_another_one_has_made_since(
    small: SmallPipeline,
    other: SmallPipeline,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    only_groups: bool,
    said: str,
) -> None:
    def other_run() -> None:
        if only_groups:
            group_reviews(lake, other.pipeline.settings)
        else:
            assert other.execute("ingest").success

    assert small.execute("ingest").success
    complete(lake, require_plan(lake))
    after_step(monkeypatch, "PIPELINE_SUCCESS", other_run)
    with pytest.raises(PlanError, match=said):
        materialize_pending(small.instance, small.pipeline, log_level="CRITICAL")
