"""A team's instance at work: real servers, PostgreSQL, logs of runs on S3."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.assets.dagster_home import prepare_home
from reviewsum_assets.checkpoints.plan import partition_key, require_plan
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support import eager_sensors
from tests.support.dagster_servers import DagsterServers, dagster_servers
from tests.support.held_jobs import hold_job, kill_jobs
from tests.support.pipeline import FAST, texts, write_dump
from tests.support.postgres import postgres_server

# Checkpoints that land before a job is interrupted.
LANDED = 3
_RUN_SECONDS = 300.0

pytestmark = pytest.mark.drill


@pytest.fixture
def team(
    lake: Lake, s3_lake: Lake, pegasus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterServers]:
    """Webserver and daemon of a team over an empty lake."""
    bucket, _, prefix = s3_lake.uri.removeprefix("s3://").partition("/")
    with postgres_server(tmp_path / "postgres") as url:
        for name, value in {
            "DAGSTER_HOME": str(tmp_path / "home"),
            "DAGSTER_POSTGRES_URL": url,
            "DAGSTER_LOGS_BUCKET": bucket,
            "DAGSTER_LOGS_PREFIX": f"{prefix}/logs",
            "REVIEWSUM_LAKE": lake.uri,
            "REVIEWSUM_MODEL": str(pegasus),
            **{f"REVIEWSUM_{key.upper()}": str(value) for key, value in FAST.items()},
        }.items():
            monkeypatch.setenv(name, value)
        definitions = Path(eager_sensors.__file__)
        try:
            with dagster_servers(prepare_home(), dict(os.environ), definitions) as servers:
                yield servers
        finally:
            kill_jobs(lake)


def finished(servers: DagsterServers, run_id: str) -> str:
    """The status that a run ends with."""
    ends = ("SUCCESS", "FAILURE", "CANCELED")
    return (
        servers.wait_for(
            lambda: (status := servers.run_status(run_id)) in ends and status,
            f"run {run_id} to end",
            _RUN_SECONDS,
        )
        or ""
    )


def backfilled(servers: DagsterServers, *numbers: int) -> str:
    """The status that a backfill of these checkpoints ends with."""
    return ended(servers, servers.backfill([partition_key(number) for number in numbers]))


def ended(servers: DagsterServers, backfill: str) -> str:
    """The status that a backfill ends with."""
    return (
        servers.wait_for(
            lambda: (
                (status := servers.backfill_status(backfill)).startswith("COMPLETED") and status
            ),
            f"backfill {backfill} to end",
            _RUN_SECONDS,
        )
        or ""
    )


def jobs(lake: Lake) -> set[str]:
    return {item.key.split("/")[1] for item in lake.list(places.PROCESSING_JOBS)}


def manifests(lake: Lake) -> dict[str, bytes | None]:
    return {item.key: lake.get(item.key) for item in lake.list(places.CHECKPOINT_MANIFESTS)}


def logs(s3_lake: Lake) -> list[str]:
    return [item.key for item in s3_lake.list("logs")]


def merged(lake: Lake) -> set[str]:
    content = lake.get(places.MERGED_CSV)
    return set() if content is None else set(pl.read_csv(content)["product_id"])


def test_a_team_ingests_backfills_what_it_likes_and_merges(
    team: DagsterServers, lake: Lake, s3_lake: Lake
) -> None:
    assert lake.directory is not None
    products = texts(8)
    write_dump(lake.directory / places.REVIEW_DUMPS / "first.csv", products)
    assert finished(team, team.launch("ingest")) == "SUCCESS"
    assert team.partition_counts()["numPartitions"] == 4

    assert backfilled(team, 1, 3) == "COMPLETED_SUCCESS"
    assert team.partition_counts()["numMaterialized"] == 2
    assert len(jobs(lake)) == 1, "a scattered selection is one Processing job"
    (_, _, first_end), (_, second_start, _) = sorted(
        team.run_spans("__ASSET_JOB"), key=lambda run: run[1]
    )
    assert first_end <= second_start, "the pool lets one run work at a time"

    before = manifests(lake)
    assert backfilled(team, 1, 2, 3, 4) == "COMPLETED_SUCCESS"
    assert team.partition_counts()["numMaterialized"] == 4
    assert {key: manifests(lake)[key] for key in before} == before
    assert finished(team, team.launch("merge")) == "SUCCESS"
    assert merged(lake) == set(products)
    assert logs(s3_lake), "the logs of runs are on S3"

    lake.delete(places.checkpoint_manifest(2))
    # The daemon looks by itself, and two looks at the same time would make two failed runs.
    team.wait_for(
        lambda: team.partition_counts()["numFailed"] == 1, "a red partition", _RUN_SECONDS
    )
    ((recorded, *_),) = team.run_spans("summarize")
    for strategy in ("ALL_STEPS", "FROM_FAILURE"):
        assert finished(team, team.reexecute(recorded, strategy)) == "SUCCESS"
    assert team.partition_counts()["numMaterialized"] == 4


def test_a_team_cancels_repairs_and_sees_new_dumps_become_a_table(
    team: DagsterServers, lake: Lake
) -> None:
    assert lake.directory is not None
    dumps, products = lake.directory / places.REVIEW_DUMPS, texts(230)
    first = dict(list(products.items())[:200])
    write_dump(dumps / "first.csv", first)
    assert finished(team, team.launch("ingest")) == "SUCCESS"
    numbers = [planned.number for planned in require_plan(lake).checkpoints]

    team.backfill([partition_key(number) for number in numbers])
    held = hold_job(lake, LANDED)
    with held.going_on_once_told_to_end():
        team.terminate(team.runs()[0]["id"])
    assert finished(team, team.runs()[0]["id"]) == "CANCELED"
    counts = team.partition_counts()
    assert (counts["numMaterialized"], counts["numFailed"]) == (len(manifests(lake)), 0)

    backfill = team.backfill([partition_key(number) for number in unfinished(lake, numbers)])
    hold_job(lake, LANDED).kill()
    assert ended(team, backfill) == "COMPLETED_FAILED"
    before, failed = manifests(lake), unfinished(lake, numbers)
    counts = team.partition_counts()
    assert (counts["numMaterialized"], counts["numFailed"]) == (len(before), len(failed))
    assert failed
    assert backfilled(team, *failed) == "COMPLETED_SUCCESS"
    assert {key: manifests(lake)[key] for key in before} == before

    write_dump(dumps / "second.csv", dict(list(products.items())[200:]))
    team.switch_on("new_dumps")
    team.wait_for(lambda: merged(lake) == set(products), "the new table", 2 * _RUN_SECONDS)


def unfinished(lake: Lake, numbers: Iterable[int]) -> list[int]:
    """The last of these checkpoints: one worker computes them in their order."""
    landed = manifests(lake)
    return [number for number in numbers if places.checkpoint_manifest(number) not in landed]
