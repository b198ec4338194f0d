from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import validate_run_config

from reviewsum_assets.assets import summarize_run
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.review_dumps import review_dumps
from reviewsum_assets.checkpoints.manifest import decode_rows
from reviewsum_assets.checkpoints.plan import partition_key, require_plan
from reviewsum_assets.checkpoints.validity import CheckpointState, check_checkpoints
from reviewsum_assets.compute import Launch
from reviewsum_assets.definitions import defs
from reviewsum_assets.job.spec import job_spec
from reviewsum_assets.reviews.dumps import find_dumps, listing_fingerprint
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.checkpoints import complete, retime
from tests.support.held_jobs import hold_job
from tests.support.models import POISON
from tests.support.pipeline import SmallPipeline, failure, texts, write_dump
from tests.support.waiting import wait_until


def partitions(small: SmallPipeline) -> list[str]:
    return list(small.instance.get_dynamic_partitions("checkpoints"))


def test_ingest_says_what_it_read_and_planned(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", {**texts(6), "": "no product id"})
    small = SmallPipeline.build(instance, lake, pegasus, dump)
    found = small.materializations(small.execute("ingest"))
    assert found["grouped_reviews"]["dagster/row_count"] == 6
    (observed,) = instance.fetch_observations(dg.AssetKey("review_dumps"), limit=1).records
    assert observed.asset_observation is not None
    assert "dump.csv" in str(observed.asset_observation.metadata["dumps"].value)
    assert next(iter(found["checkpoint_plan"])) == "bill"
    assert found["grouped_reviews"]["quarantined_rows"] == 1
    assert found["summarizer_model"]["family"] == "pegasus"
    assert found["checkpoint_plan"]["products_new"] == 6
    assert found["checkpoint_plan"]["products_changed_in_text"] == 0
    assert found["checkpoint_plan"]["products_changed_in_model_or_settings"] == 0
    assert found["checkpoint_plan"]["checkpoints_added"] == 3
    assert partitions(small) == ["checkpoint_00001", "checkpoint_00002", "checkpoint_00003"]


def test_a_run_over_a_range_materializes_every_checkpoint_with_its_metadata(
    small: SmallPipeline,
) -> None:
    run = small.summarize(1, 3)
    assert run.success
    found = small.materializations(run)
    assert sorted(found) == partitions(small)
    first = found["checkpoint_00001"]
    assert (first["products"], first["chunks"]) == ("2 of 2 summarized", 2)
    assert not {"quarantined", "chunks_reused"} & set(first)  # curves of zeros say nothing
    assert first["reused"] is False
    assert first["dagster/uri"].endswith("checkpoint_files/checkpoint_file_1.csv")
    assert "| P000 |" in first["preview"]
    for key in ("tokens_in", "tokens_out", "worker_seconds", "products_per_hour", "reviews"):
        assert first[key] > 0
    assert "| predicted |" in first["seconds"]
    assert "| product_id | abstracted_summary | review_count |" in first["preview"]
    assert first["compression_ratio"] == pytest.approx(
        first["tokens_out"] / first["tokens_in"], abs=1e-4
    )
    assert "usd" not in first  # this machine has no price
    assert Path(first["job_log"]).exists()


def test_a_checkpoint_of_a_machine_of_aws_shows_its_price_and_no_log_of_ours(
    small: SmallPipeline,
) -> None:
    lake = small.pipeline.lake
    complete(lake, require_plan(lake))
    retime(lake, 1, seconds=3600.0, reused=1, instance_type="ml.g5.12xlarge")
    found = small.materializations(small.summarize(1, 2))
    assert found["checkpoint_00001"]["usd"] == pytest.approx(7.09 / 4)
    assert found["checkpoint_00001"]["products_per_hour"] == 2
    assert found["checkpoint_00001"]["chunks_reused"] == 1
    assert "job_log" not in found["checkpoint_00001"]
    assert "usd" not in found["checkpoint_00002"]


def test_data_versions_of_partitions_are_those_of_the_plan(small: SmallPipeline) -> None:
    small.summarize(1, 1)
    record = small.instance.get_latest_data_version_record(
        dg.AssetKey("chunk_summaries"), partition_key="checkpoint_00001"
    )
    assert record is not None
    assert record.asset_materialization is not None
    version = (record.asset_materialization.tags or {})["dagster/data_version"].partition(":")[0]
    manifest = small.pipeline.lake.get(places.checkpoint_manifest(1)) or b""
    assert f'"data_version": "{version}"' in manifest.decode()


def test_what_is_valid_is_logged_first_and_not_computed_again(small: SmallPipeline) -> None:
    small.summarize(2, 2)
    before = small.pipeline.lake.get(places.checkpoint_manifest(2))
    found = small.materializations(small.summarize(1, 3))
    assert next(iter(found)) == "checkpoint_00002"
    assert {key: metadata["reused"] for key, metadata in found.items()} == {
        "checkpoint_00001": False,
        "checkpoint_00002": True,
        "checkpoint_00003": False,
    }
    assert small.pipeline.lake.get(places.checkpoint_manifest(2)) == before
    jobs = len(small.pipeline.lake.list(places.PROCESSING_JOBS))
    assert small.summarize(1, 3).success
    assert len(small.pipeline.lake.list(places.PROCESSING_JOBS)) == jobs


def test_recompute_computes_valid_checkpoints_again(small: SmallPipeline) -> None:
    small.summarize(1, 1)
    before = small.pipeline.lake.get(places.checkpoint_manifest(1))
    run = small.summarize(1, 1, chunk_summaries={"config": {"recompute": True}})
    assert run.success
    assert small.materializations(run)["checkpoint_00001"]["reused"] is False
    assert small.pipeline.lake.get(places.checkpoint_manifest(1)) != before


def test_a_checkpoint_that_does_not_land_fails_the_run_by_name_and_keeps_the_others(
    small: SmallPipeline,
) -> None:
    lake = small.pipeline.lake
    lake.put(f"{places.checkpoint_csv(2)}/in the way", b"")
    run = small.summarize(1, 3)
    assert not run.success
    message = failure(run)
    assert "1 of 3 requested checkpoints did not land" in message
    assert "checkpoint_00002: cannot write" in message
    assert sorted(small.materializations(run)) == ["checkpoint_00001", "checkpoint_00003"]
    status = small.instance.get_materialized_partitions(dg.AssetKey("chunk_summaries"))
    assert status == {"checkpoint_00001", "checkpoint_00003"}


def test_quarantined_products_are_named_in_the_partitions_metadata(
    instance: dg.DagsterInstance, lake: Lake, poisoned_bart: Path, tmp_path: Path
) -> None:
    products = {**texts(2), "BAD": f"The sound is {POISON}"}
    dump = write_dump(tmp_path / "dump.csv", products)
    small = SmallPipeline.build(instance, lake, poisoned_bart, dump, checkpoint_size=3)
    small.execute("ingest")
    found = small.materializations(small.summarize(1, 1))["checkpoint_00001"]
    assert found["quarantined"] == 1
    assert "| BAD | chunk 1 of 1: IndexError" in found["quarantined_products"]


def test_the_merge_has_row_count_schema_preview_and_place(small: SmallPipeline) -> None:
    small.summarize(1, 3)
    found = small.materializations(small.execute("merge"))["merged_summaries"]
    assert found["dagster/row_count"] == 6
    assert found["completeness"] == 1.0
    assert found["dagster/uri"].endswith("summarized_dataset/merged_summaries.csv")
    assert [column.name for column in found["dagster/column_schema"].columns] == [
        "product_id",
        "abstracted_summary",
        "review_count",
    ]
    assert "| P000 |" in found["preview"]


def test_the_merge_shows_totals_and_shares(small: SmallPipeline) -> None:
    lake = small.pipeline.lake
    complete(lake, require_plan(lake), poison=["P005"])
    retime(lake, 1, seconds=3600.0, reused=1, instance_type="ml.g5.12xlarge")
    found = small.materializations(small.execute("merge"))["merged_summaries"]
    assert (found["chunks"], found["chunks_reused"]) == (5, 1)
    assert (found["tokens_in"], found["tokens_out"], found["compression_ratio"]) == (50, 25, 0.5)
    assert found["usd"] == pytest.approx(1.77)
    assert found["worker_hours"] == pytest.approx(1.0)
    # The dump gives the products 11, 10, ... 6 reviews.
    assert (found["reviews_covered"], found["review_coverage"]) == (45, round(45 / 51, 4))
    assert (found["reviews_read"], found["reviews_cut"], found["reviews_left_out"]) == (45, 0, 0)
    assert found["reads"].splitlines()[2:] == ["| 5 to 9 | 24 | 100% |", "| 10 to 19 | 21 | 100% |"]
    assert found["words_per_summary"] == 12.0
    assert found["coverage"].splitlines()[2:] == [
        "| 5 to 9 | 30 | 80% |",
        "| 10 to 19 | 21 | 100% |",
    ]
    assert found["lengths"].splitlines()[2:] == ["| 10 to 14 | 5 |"]
    assert list(found)[:5] == [
        "rows",
        "completeness",
        "review_coverage",
        "words_per_summary",
        "usd",
    ]


def test_a_merge_without_a_checkpoint_fails_with_its_name_unless_it_is_allowed(
    small: SmallPipeline, lake: Lake
) -> None:
    complete(lake, require_plan(lake), [1, 2])
    assert "checkpoint_00003 (missing: no manifest)" in failure(small.execute("merge"))
    run = small.execute("merge", merged_summaries={"config": {"allow_incomplete": True}})
    assert small.materializations(run)["merged_summaries"]["completeness"] == pytest.approx(4 / 6)


def test_a_second_dump_computes_only_what_changed_in_one_new_checkpoint(
    small: SmallPipeline, tmp_path: Path
) -> None:
    small.summarize(1, 3)
    before = [small.pipeline.lake.get(places.checkpoint_manifest(n)) for n in (1, 2, 3)]
    changed = {**texts(6), "P001": "All new", "P003": "All new too", "P005": "And this"}
    write_dump(tmp_path / "dump.csv", {**changed, "X1": "Brand new one", "X2": "Brand new two"})
    wider = SmallPipeline.build(
        small.instance,
        small.pipeline.lake,
        Path(small.pipeline.settings.model),
        tmp_path / "dump.csv",
        checkpoint_size=5,
    )
    found = wider.materializations(wider.execute("ingest"))["checkpoint_plan"]
    counts = [found[f"products_{kind}"] for kind in ("new", "changed", "unchanged")]
    assert counts == [2, 3, 3]
    assert wider.checkpoints == [1, 2, 3, 4]
    assert partitions(wider)[-1] == "checkpoint_00004"
    assert wider.summarize(4, 4).success
    assert wider.execute("merge").success
    assert [wider.pipeline.lake.get(places.checkpoint_manifest(n)) for n in (1, 2, 3)] == before
    merged = decode_rows(wider.pipeline.lake.get(places.MERGED_CSV) or b"")
    assert len(merged) == len({row.product_id for row in merged}) == 8


def test_a_retired_checkpoint_leaves_the_partitions(small: SmallPipeline, tmp_path: Path) -> None:
    changed = {**texts(6), "P000": "All new", "P001": "All new too"}
    write_dump(tmp_path / "dump.csv", changed)
    small.execute("ingest")
    assert partitions(small) == ["checkpoint_00002", "checkpoint_00003", "checkpoint_00004"]


def test_a_run_attaches_to_a_live_job_instead_of_starting_another(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(100))
    small = SmallPipeline.build(instance, lake, pegasus, dump)
    small.execute("ingest")
    plan = require_plan(lake)
    spec = job_spec(
        plan,
        plan.checkpoints,
        lake=lake.uri,
        engine=small.pipeline.settings.engine_settings(),
    )
    job = small.pipeline.compute.start(spec, Launch())
    run = small.summarize(1, 10)
    assert run.success
    wait_until(job.poll, "the job to end")
    producers = {m["job"] for m in small.materializations(run).values()}
    assert producers == {job.spec.name}


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


def test_summarizing_before_planning_says_what_to_do(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    small = SmallPipeline.build(instance, lake, pegasus, tmp_path / "none.csv")
    instance.add_dynamic_partitions("checkpoints", ["checkpoint_00001"])
    assert "holds no plan yet" in failure(small.summarize(1, 1))


def test_a_partition_added_by_hand_says_where_partitions_come_from(small: SmallPipeline) -> None:
    for key in ("checkpoint_00009", "my partition"):
        small.instance.add_dynamic_partitions("checkpoints", [key])
        run = small.execute("summarize", {"dagster/partition": key})
        assert "Partitions come from the plan" in failure(run)
        assert "launch the job refresh" in failure(run)


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


def test_overrides_without_effect_are_reported(small: SmallPipeline, lake: Lake) -> None:
    lines = warnings_of(small, "ingest", top_k=30700, hierarchical_chars=5000)
    assert any("top_k is 30700 without it too" in line for line in lines)
    assert any("strategy join does not use hierarchical_chars" in line for line in lines)
    lines = warnings_of(small, "summarize", max_length=64)
    assert any("max_length 16 -> 64. Checkpoints are computed as planned" in line for line in lines)


def warnings_of(small: SmallPipeline, job: str, **overrides: Any) -> list[str]:
    """Warnings in the log of a run with these overrides."""
    chosen = small.with_settings(**overrides)
    chosen.pipeline = Pipeline(chosen.pipeline.settings, overrides=overrides)
    tags = {"dagster/partition": "checkpoint_00001"} if job == "summarize" else {}
    run = chosen.execute(job, tags)
    return [entry.user_message for entry in small.instance.all_logs(run.run_id)]


def test_complete_partitions_are_reported_before_they_are_removed(
    small: SmallPipeline, lake: Lake
) -> None:
    complete(lake, require_plan(lake))
    other = small.with_settings(max_length=20)
    run = other.execute("ingest")
    lines = [entry.user_message for entry in small.instance.all_logs(run.run_id)]
    assert any("3 complete partitions are removed" in line for line in lines)
    found = other.materializations(run)["checkpoint_plan"]
    assert "max_length 20 (environment: 128)" in found["other_settings_than_the_environment"]


def test_one_run_goes_from_dumps_to_the_table_and_lands_partitions(
    instance: dg.DagsterInstance, lake: Lake, pegasus: Path, tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.csv", texts(5))
    small = SmallPipeline.build(instance, lake, pegasus, dump)
    run = small.refresh()
    assert run.success
    assert (lake.get(places.MERGED_CSV) or b"").count(b"\n") == 6
    keys = [partition_key(number) for number in (1, 2, 3)]
    assert set(keys) <= set(small.materializations(run))
    statuses = instance.get_materialized_partitions(dg.AssetKey("chunk_summaries"))
    assert statuses == set(keys)
    messages = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert any("3 checkpoints are pending: 5 products" in message for message in messages)
    before = {item.key: item.e_tag for item in lake.list(places.CHECKPOINT_MANIFESTS)}
    again = small.refresh()
    assert again.success
    assert {item.key: item.e_tag for item in lake.list(places.CHECKPOINT_MANIFESTS)} == before
    assert not set(keys) & set(small.materializations(again))
