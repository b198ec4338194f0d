"""A team's instance at work: real servers, PostgreSQL, logs of runs on S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.assets.dagster_home import prepare_home
from reviewsum_assets.checkpoints.plan import partition_key
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support import eager_sensors
from tests.support.dagster_servers import DagsterServers, dagster_servers
from tests.support.held_jobs import kill_jobs
from tests.support.pipeline import FAST, texts, write_dump
from tests.support.postgres import postgres_server

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

    def end() -> str:
        status = servers.run_status(run_id)
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else ""

    return servers.wait_for(end, f"run {run_id} to end", _RUN_SECONDS)


def backfilled(servers: DagsterServers, *numbers: int) -> str:
    """The status that a backfill of these checkpoints ends with."""
    backfill = servers.backfill([partition_key(number) for number in numbers])

    def end() -> str:
        status = servers.backfill_status(backfill)
        return status if status.startswith("COMPLETED") else ""

    return servers.wait_for(end, f"backfill {backfill} to end", _RUN_SECONDS)


def manifests(lake: Lake) -> dict[str, bytes | None]:
    return {item.key: lake.get(item.key) for item in lake.list(places.CHECKPOINT_MANIFESTS)}


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
    assert len({item.key.split("/")[1] for item in lake.list(places.PROCESSING_JOBS)}) == 1, (
        "a scattered selection is one Processing job"
    )
    (_, _, first_end), (_, second_start, _) = sorted(
        team.run_spans("__ASSET_JOB"), key=lambda run: run[1]
    )
    assert first_end <= second_start, "the pool lets one run work at a time"

    before = manifests(lake)
    assert backfilled(team, 1, 2, 3, 4) == "COMPLETED_SUCCESS"
    assert team.partition_counts()["numMaterialized"] == 4
    assert {key: manifests(lake)[key] for key in before} == before
    assert finished(team, team.launch("merge")) == "SUCCESS"
    assert set(pl.read_csv(lake.get(places.MERGED_CSV) or b"")["product_id"]) == set(products)
    assert s3_lake.list("logs"), "the logs of runs are on S3"

    lake.delete(places.checkpoint_manifest(2))
    # The daemon looks by itself, and two looks at the same time would make two failed runs.
    team.wait_for(
        lambda: team.partition_counts()["numFailed"] == 1, "a red partition", _RUN_SECONDS
    )
    ((recorded, *_),) = team.run_spans("summarize")
    for strategy in ("ALL_STEPS", "FROM_FAILURE"):
        assert finished(team, team.reexecute(recorded, strategy)) == "SUCCESS"
    assert team.partition_counts()["numMaterialized"] == 4
