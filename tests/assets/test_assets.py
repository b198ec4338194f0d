from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import validate_run_config

from reviewsum_assets.assets import summarize_run
from reviewsum_assets.assets.grouped_reviews import review_dumps
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.manifest import decode_rows
from reviewsum_assets.checkpoints.plan import partition_key, require_plan
from reviewsum_assets.checkpoints.validity import CheckpointState, check_checkpoints
from reviewsum_assets.compute import Launch
from reviewsum_assets.definitions import defs
from reviewsum_assets.reviews.dumps import find_dumps, listing_fingerprint
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, retime
from tests.support.held_jobs import hold_job
from tests.support.models import POISON
from tests.support.pipeline import SmallPipeline, failure, texts, write_dump
from tests.support.waiting import wait_until

KEYS = [partition_key(number) for number in (1, 2, 3)]


def partitions(small: SmallPipeline) -> list[str]:
    return list(small.instance.get_dynamic_partitions("checkpoints"))


def manifests(lake: Lake) -> dict[str, bytes | None]:
    return {item.key: lake.get(item.key) for item in lake.list(places.CHECKPOINT_MANIFESTS)}


@dataclass(frozen=True)
class Story:
    """Runs over one dump of six products: the middle checkpoint, all three, one again, the merge.

    Each run comes with the metadata of what it materialized.
    """

    small: SmallPipeline
    ingest: dict[str, dict[str, Any]]
    whole: dict[str, dict[str, Any]]
    again: dict[str, dict[str, Any]]
    merged: dict[str, dict[str, Any]]
    manifests: list[dict[str, bytes | None]]


@pytest.fixture(scope="module")
def story(pegasus: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Three real jobs, and the runs around them."""
    folder = tmp_path_factory.mktemp("story")
    dump = write_dump(folder / "dump.csv", {**texts(6), "": "no product id"})
    lake, manifests_then = Lake.open(str(folder / "lake")), []
    instance = dg.DagsterInstance.local_temp(str(folder), {"telemetry": {"enabled": False}})
    small = SmallPipeline.build(instance, lake, pegasus, dump)

    def run(call: Callable[..., Any], *arguments: Any, **config: Any) -> dict[str, dict[str, Any]]:
        found = call(*arguments, **config)
        assert found.success
        manifests_then.append(manifests(lake))
        return small.materializations(found)

    ingest = run(small.execute, "ingest")
    run(small.summarize, 2, 2)
    return Story(
        small,
        ingest,
        whole=run(small.summarize, 1, 3),
        again=run(small.summarize, 1, 1, chunk_summaries={"config": {"recompute": True}}),
        merged=run(small.execute, "merge"),
        manifests=manifests_then,
    )


def test_ingest_says_what_it_read_and_planned(story: Story) -> None:
    grouped, plan = story.ingest["grouped_reviews"], story.ingest["checkpoint_plan"]
    assert (grouped["dagster/row_count"], grouped["quarantined_rows"]) == (6, 1)
    dumps = story.small.instance.fetch_observations(review_dumps.key, limit=1).records
    assert dumps[0].asset_observation is not None
    assert "dump.csv" in str(dumps[0].asset_observation.metadata["dumps"].value)
    assert story.ingest["summarizer_model"]["family"] == "pegasus"
    assert next(iter(plan)) == "bill"
    assert (plan["products_new"], plan["products_changed"], plan["checkpoints_added"]) == (6, 0, 3)
    assert partitions(story.small) == KEYS


def test_a_run_over_a_range_materializes_every_checkpoint_with_its_metadata(story: Story) -> None:
    assert list(story.whole) == [KEYS[1], KEYS[0], KEYS[2]], "what is valid is logged first"
    assert [story.whole[key]["reused"] for key in KEYS] == [False, True, False]
    first = story.whole[KEYS[0]]
    assert (first["products"], first["chunks"]) == ("2 of 2 summarized", 2)
    assert not {"quarantined", "chunks_reused"} & set(first)  # curves of zeros say nothing
    assert first["dagster/uri"].endswith("checkpoint_files/checkpoint_file_1.csv")
    for key in ("tokens_in", "tokens_out", "worker_seconds", "products_per_hour", "reviews"):
        assert first[key] > 0
    assert "| predicted |" in first["seconds"]
    assert "| product_id | abstracted_summary | review_count |" in first["preview"]
    assert "| P000 |" in first["preview"]
    assert "usd" not in first  # this machine has no price
    assert Path(first["job_log"]).exists()


def test_what_is_valid_is_computed_again_only_by_recompute(story: Story) -> None:
    _, middle, whole, again, _ = story.manifests
    key = places.checkpoint_manifest(2)
    assert whole[key] == middle[key]
    changed = [key for key in whole if whole[key] != again[key]]
    assert changed == [places.checkpoint_manifest(1)]
    assert story.again[KEYS[0]]["reused"] is False


def test_data_versions_of_partitions_are_those_of_the_plan(story: Story) -> None:
    asset, key = dg.AssetKey("chunk_summaries"), partition_key(2)
    record = story.small.instance.get_latest_data_version_record(asset, partition_key=key)
    assert record is not None and record.asset_materialization is not None
    version = (record.asset_materialization.tags or {})["dagster/data_version"].partition(":")[0]
    assert version == require_plan(story.small.pipeline.lake).checkpoints[1].data_version


def test_the_merge_has_row_count_schema_preview_and_place(story: Story) -> None:
    found = story.merged["merged_summaries"]
    assert (found["dagster/row_count"], found["completeness"]) == (6, 1.0)
    assert found["dagster/uri"].endswith("summarized_dataset/merged_summaries.csv")
    columns = [column.name for column in found["dagster/column_schema"].columns]
    assert columns == ["product_id", "abstracted_summary", "review_count"]
    assert "| P000 |" in found["preview"]


def test_the_merge_shows_totals_and_shares_and_aws_has_a_price(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    complete(lake, require_plan(lake), poison=["P005"])
    retime(lake, 1, seconds=3600.0, reused=1, instance_type="ml.g5.12xlarge")
    found = small.materializations(small.summarize(1, 2))
    assert found[KEYS[0]]["usd"] == pytest.approx(7.09 / 4)
    assert (found[KEYS[0]]["products_per_hour"], found[KEYS[0]]["chunks_reused"]) == (2, 1)
    assert "job_log" not in found[KEYS[0]]
    merged = small.materializations(small.execute("merge"))["merged_summaries"]
    assert (merged["chunks"], merged["chunks_reused"]) == (5, 1)
    assert (merged["tokens_in"], merged["tokens_out"], merged["compression_ratio"]) == (50, 25, 0.5)
    assert (merged["usd"], merged["worker_hours"]) == pytest.approx((1.77, 1.0))
    # The dump gives the products 11, 10, ... 6 reviews.
    assert (merged["reviews_covered"], merged["review_coverage"]) == (45, round(45 / 51, 4))
    assert (merged["reviews_read"], merged["reviews_cut"], merged["reviews_left_out"]) == (45, 0, 0)
    assert merged["words_per_summary"] == 12.0
    for name, rows in {
        "reads": ["| 5 to 9 | 24 | 100% |", "| 10 to 19 | 21 | 100% |"],
        "coverage": ["| 5 to 9 | 30 | 80% |", "| 10 to 19 | 21 | 100% |"],
        "lengths": ["| 10 to 14 | 5 |"],
    }.items():
        assert merged[name].splitlines()[2:] == rows
    first = ["rows", "completeness", "review_coverage", "words_per_summary", "usd"]
    assert list(merged)[:5] == first


def test_quarantined_products_are_named_in_the_partitions_metadata(
    instance: dg.DagsterInstance, lake: Lake, poisoned_bart: Path, tmp_path: Path
) -> None:
    products = {**texts(2), "BAD": f"The sound is {POISON}"}
    dump = write_dump(tmp_path / "dump.csv", products)
    small = SmallPipeline.build(instance, lake, poisoned_bart, dump, checkpoint_size=3)
    small.execute("ingest")
    found = small.materializations(small.summarize(1, 1))[KEYS[0]]
    assert found["quarantined"] == 1
    assert "| BAD | chunk 1 of 1: IndexError" in found["quarantined_products"]


def test_a_merge_without_a_checkpoint_fails_with_its_name_unless_it_is_allowed(
    small: SmallPipeline, lake: Lake
) -> None:
    complete(lake, require_plan(lake), [1, 2])
    assert "checkpoint_00003 (missing: no manifest)" in failure(small.execute("merge"))
    run = small.execute("merge", merged_summaries={"config": {"allow_incomplete": True}})
    assert small.materializations(run)["merged_summaries"]["completeness"] == pytest.approx(4 / 6)


def test_a_second_dump_plans_only_what_changed_and_retires_what_is_replaced(
    small: SmallPipeline, lake: Lake, tmp_path: Path
) -> None:
    complete(lake, require_plan(lake))
    before = manifests(lake)
    changed = dict.fromkeys(("P000", "P001", "P003"), "All new")
    write_dump(tmp_path / "dump.csv", {**texts(6), **changed, "X1": "New", "X2": "Newer"})
    wider = small.with_settings(checkpoint_size=5)
    run = wider.execute("ingest")
    found = wider.materializations(run)["checkpoint_plan"]
    assert [found[f"products_{kind}"] for kind in ("new", "changed", "unchanged")] == [2, 3, 3]
    assert partitions(wider) == [KEYS[1], KEYS[2], partition_key(4)]
    logged = [entry.user_message for entry in small.instance.all_logs(run.run_id)]
    assert any("1 complete partitions are removed" in line for line in logged)
    assert "checkpoint_size" not in found.get("other_settings_than_the_environment", "")
    complete(lake, require_plan(lake), [4])
    assert wider.execute("merge").success
    assert before.items() <= manifests(lake).items()
    merged = decode_rows(lake.get(places.MERGED_CSV) or b"")
    assert len(merged) == len({row.product_id for row in merged}) == 8


def test_a_job_that_ends_while_a_run_reads_what_is_missing_is_not_followed_by_another(
    small: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = small.pipeline.lake
    job = small.pipeline.compute.start(small.job_spec(), Launch())
    held = hold_job(lake, landed=0)

    def slowly(*arguments: Any) -> list[CheckpointState]:
        states = list(check_checkpoints(*arguments))
        if job.poll() is None:
            held.go_on()
            wait_until(job.poll, "the job to end")
        return states

    monkeypatch.setattr(summarize_run, "check_checkpoints", slowly)
    assert small.summarize(1, 3).success
    assert {item.key.split("/")[1] for item in lake.list(places.PROCESSING_JOBS)} == {job.spec.name}


def test_observing_the_dumps_gives_them_a_version(small: SmallPipeline) -> None:
    observed = dg.Definitions(assets=[review_dumps], resources={"pipeline": small.pipeline})
    job = observed.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=small.instance).success
    (record,) = small.instance.fetch_observations(review_dumps.key, limit=1).records
    assert record.asset_observation is not None
    assert (record.asset_observation.tags or {})["dagster/data_version"] == listing_fingerprint(
        find_dumps(small.pipeline.lake, small.pipeline.settings)
    )


def test_a_partition_that_no_plan_has_says_where_partitions_come_from(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(2))
    small = SmallPipeline.build(instance, lake, pegasus, dump)
    for key in (KEYS[1], "my partition"):
        instance.add_dynamic_partitions("checkpoints", [key])
    assert "holds no plan yet" in failure(small.summarize(2, 2))
    assert small.execute("ingest").success
    for key in (KEYS[1], "my partition"):
        instance.add_dynamic_partitions("checkpoints", [key])
        said = failure(small.execute("summarize", {"dagster/partition": key}))
        assert "Partitions come from the plan" in said and "launch the job refresh" in said


def test_an_empty_lake_begins_with_the_sample_where_jobs_are_free_of_cost(
    instance: dg.DagsterInstance, lake: Lake
) -> None:
    sagemaker = load_settings(lake=lake.uri, compute="sagemaker", role_arn="arn:aws:iam::1:role/r")
    run = SmallPipeline(instance, Pipeline(sagemaker)).execute("ingest")
    assert "no reviews to read: put dumps under" in failure(run)
    small = SmallPipeline(instance, Pipeline(load_settings(lake=lake.uri)))
    assert small.execute("ingest").success
    assert small.checkpoints


def test_a_typo_or_wrong_type_in_the_launchpad_is_refused_before_launch() -> None:
    job = defs.resolve_job_def("refresh")
    for overrides in ({"top_kk": 3}, {"top_k": "three"}, {"engine": "warp"}, {"subnets": "a"}):
        config = {"resources": {"pipeline": {"config": {"overrides": overrides}}}}
        with pytest.raises(dg.DagsterInvalidConfigError):
            validate_run_config(job, config)
    right = {"top_k": 3, "max_cost_usd": 1, "subnets": ["a"], "job_tags": {"team": "x"}}
    assert validate_run_config(job, {"resources": {"pipeline": {"config": {"overrides": right}}}})


def test_a_setting_that_cannot_work_fails_the_first_steps_with_its_sentence(
    instance: dg.DagsterInstance, lake: Lake
) -> None:
    overrides = {"lake": lake.uri, "min_length": 200}
    run: Any = defs.resolve_job_def("merge").execute_in_process(
        instance=instance,
        run_config={"resources": {"pipeline": {"config": {"overrides": overrides}}}},
        raise_on_error=False,
    )
    sentences = [
        event.event_specific_data.user_failure_data.description
        for event in run.all_events
        if event.event_type_value == "STEP_FAILURE"
    ]
    assert sentences
    for sentence in sentences:
        assert sentence.startswith("min_length 200 must be below max_length 128")


def test_overrides_are_reported_with_their_effect(small: SmallPipeline, lake: Lake) -> None:
    complete(lake, require_plan(lake), [1])
    lines = warnings_of(small, "summarize", max_length=64)
    assert any("max_length 16 -> 64. Checkpoints are computed as planned" in line for line in lines)
    lines = warnings_of(small, "ingest", top_k=30700, hierarchical_chars=5000, max_length=20)
    assert any("top_k is 30700 without it too" in line for line in lines)
    assert any("strategy join does not use hierarchical_chars" in line for line in lines)
    asset = dg.AssetKey("checkpoint_plan")
    (record,) = small.instance.fetch_materializations(asset, limit=1).records
    assert record.asset_materialization is not None
    differing = record.asset_materialization.metadata["other_settings_than_the_environment"].value
    assert "max_length 20 (environment: 128)" in str(differing)


def warnings_of(small: SmallPipeline, job: str, **overrides: Any) -> list[str]:
    """The log of a run with these overrides."""
    chosen = small.with_settings(**overrides)
    chosen.pipeline = Pipeline(chosen.pipeline.settings, overrides=overrides)
    tags = {"dagster/partition": KEYS[0]} if job == "summarize" else {}
    run = chosen.execute(job, tags)
    return [entry.user_message for entry in small.instance.all_logs(run.run_id)]


def test_one_run_goes_from_dumps_to_the_table_and_lands_partitions(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(5))
    small = SmallPipeline.build(instance, lake, pegasus, dump)
    run = small.refresh()
    assert run.success
    assert (lake.get(places.MERGED_CSV) or b"").count(b"\n") == 6
    assert set(KEYS) <= set(small.materializations(run))
    assert instance.get_materialized_partitions(dg.AssetKey("chunk_summaries")) == set(KEYS)
    messages = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert any("3 checkpoints are pending: 5 products" in message for message in messages)
    before = manifests(lake)
    again = small.refresh()
    assert again.success
    assert manifests(lake) == before
    assert not set(KEYS) & set(small.materializations(again))
