"""A person at the Dagster UI, then automation: real servers, a real browser, the demo."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from reviewsum_assets.assets.checks import merged_summaries_checks
from reviewsum_assets.assets.dagster_home import prepare_home
from reviewsum_assets.assets.quality_checks import summary_quality_checks
from reviewsum_assets.checkpoints.manifest import decode_rows
from reviewsum_assets.checkpoints.plan import partition_key
from reviewsum_assets.demo import SAMPLE_DUMP
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support import eager_sensors
from tests.support.browser import DagsterUI, dagster_ui
from tests.support.dagster_servers import DagsterServers, dagster_servers
from tests.support.held_jobs import HeldJob, hold_job, kill_jobs

# Only products with many reviews, so that there is little to do for the demo model.
SETTINGS = {"min_reviews": 30, "checkpoint_size": 5, "batch_size": 5, "workers": 1, "device": "cpu"}
PARTITIONS = "assets/chunk_summaries?view=partitions"
# Checkpoints that land before a job is interrupted.
LANDED = 3
_RUN_SECONDS = 600.0
_REFRESH_SECONDS = 120.0

pytestmark = pytest.mark.drill


@dataclass(frozen=True)
class Desk:
    """A lake, servers over it, and a browser window on them."""

    lake: Lake
    servers: DagsterServers
    ui: DagsterUI

    def finished(self, run_id: str) -> str:
        """The status that a run ends with."""

        def end() -> str:
            status = self.servers.run_status(run_id)
            return status if status in ("SUCCESS", "FAILURE", "CANCELED") else ""

        return self.ui.wait_for(end, f"run {run_id} to end", _RUN_SECONDS)

    def succeeded(self, job: str) -> bool:
        """Whether the newest run of a job has ended well."""
        status = next((run["status"] for run in self.servers.runs() if run["job"] == job), "")
        assert status != "FAILURE", f"a run of {job} failed"
        return status == "SUCCESS"

    def materialize(self, job: str) -> None:
        """Launch a job by its button, and wait until it has succeeded."""
        self.ui.materialize(job)
        self.ui.wait_for(lambda: self.succeeded(job), f"{job} to succeed", _RUN_SECONDS)

    def interrupted_job(self) -> tuple[HeldJob, str]:
        """A job that is held after a few checkpoints, and its run."""
        return hold_job(self.lake, LANDED), self.servers.runs()[0]["id"]

    def landed(self) -> dict[int, list[object]]:
        """Content and time of writing of each finished checkpoint's two files."""
        manifests = [item.key for item in self.lake.list(places.CHECKPOINT_MANIFESTS)]
        numbers = [number for key in manifests if (number := places.checkpoint_number_of(key))]
        return {
            number: [
                (self.lake.head(key), self.lake.get(key))
                for key in (places.checkpoint_csv(number), places.checkpoint_manifest(number))
            ]
            for number in numbers
        }

    def shows(self, **states: int) -> None:
        """Wait until the tab of partitions shows these numbers, and no others."""
        expected = {"Failed": 0, "Materialized": 0, "Materializing": 0, "Missing": 0, **states}
        self.ui.wait_for(
            lambda: self.ui.partitions() == expected, f"partitions {expected}", _REFRESH_SECONDS
        )

    def merged(self) -> set[str]:
        """Products in the merged table."""
        content = self.lake.get(places.MERGED_CSV)
        return set() if content is None else set(pl.read_csv(content)["product_id"])


@pytest.fixture
def servers(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterServers]:
    with servers_over(lake, tmp_path, monkeypatch) as servers:
        yield servers


@contextmanager
def servers_over(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterServers]:
    """Webserver and daemon over a lake."""
    for name, value in {"lake": lake.uri, **SETTINGS}.items():
        monkeypatch.setenv(f"REVIEWSUM_{name.upper()}", str(value))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    definitions = Path(eager_sensors.__file__)
    try:
        with dagster_servers(prepare_home(), dict(os.environ), definitions) as servers:
            yield servers
    finally:
        kill_jobs(lake)


def put_dump(lake: Lake, *, late: bool) -> None:
    """The sample's reviews of most products, or those of the few that come late."""
    sample = gzip.decompress(SAMPLE_DUMP.read_bytes()).splitlines()
    lines = [line for line in sample if is_late(product_of(line)) is late]
    name = "late" if late else "early"
    lake.put(f"{places.REVIEW_DUMPS}/{name}.jsonl", b"\n".join(lines) + b"\n")


def product_of(line: bytes) -> str:
    """Of a row of the sample, whole or broken."""
    found = re.search(rb'"asin": "(\w+)"', line)
    return "" if found is None else found[1].decode()


def is_late(product: str) -> bool:
    return product.endswith(("0", "1"))


def test_a_newcomer_reaches_the_table_in_three_clicks_and_reads_what_is_wrong(
    lake: Lake, servers: DagsterServers, tmp_path: Path
) -> None:
    with dagster_ui(servers.url, tmp_path / "screenshots") as ui:
        desk = Desk(lake, servers, ui)
        three_clicks_lead_from_an_empty_lake_to_the_table(desk)
        a_typo_in_the_launchpad_is_refused_before_launch(desk)
        a_run_that_cannot_read_a_dump_shows_its_sentence(desk)


def three_clicks_lead_from_an_empty_lake_to_the_table(desk: Desk) -> None:
    ui = desk.ui
    ui.open("")
    ui.page.get_by_role("link", name="Jobs").first.click()
    ui.text("refresh").click()
    ui.page.get_by_role("button").filter(has_text="Materialize").first.click()
    ui.page.get_by_text("Launched run").wait_for()
    ui.keep("three_clicks")
    ui.wait_for(lambda: desk.landed(), "the first checkpoint", _RUN_SECONDS)
    assert not desk.merged()
    ui.open(PARTITIONS)
    ui.wait_for(lambda: ui.partitions().get("Materialized", 0) > 0, "a green one", _REFRESH_SECONDS)
    ui.keep("green_while_refresh_runs")
    ui.wait_for(lambda: desk.succeeded("refresh"), "refresh to succeed", _RUN_SECONDS)
    assert desk.merged()
    ui.open(f"runs/{desk.servers.runs()[0]['id']}")
    ui.page.get_by_placeholder("Filter…").fill("pending")
    ui.page.get_by_text("checkpoints are pending:").first.wait_for()
    ui.keep("bill_in_the_log")
    ui.open("assets/checkpoint_plan")
    ui.text("bill").wait_for()
    ui.keep("bill_on_the_page")
    ui.open("assets/review_dumps")
    ui.page.get_by_text("sample_reviews.jsonl.gz").first.wait_for()
    ui.keep("observed_dumps")
    ui.open("asset-groups")
    for asset in ("review_dumps", "merged_summaries"):
        ui.text(asset).wait_for()
    ui.keep("lineage")


def a_typo_in_the_launchpad_is_refused_before_launch(desk: Desk) -> None:
    ui, runs = desk.ui, len(desk.servers.runs())
    ui.open("locations/reviewsum_assets/jobs/refresh/playground")
    for overrides, said in (
        ("top_kk: 3", 'Received unexpected config entry "top_kk"'),
        ("top_k: three", "Invalid scalar at path root:resources:pipeline:config:overrides:top_k"),
    ):
        ui.write_config(f"resources: {{pipeline: {{config: {{overrides: {{{overrides}}}}}}}}}")
        ui.page.get_by_text(said).first.wait_for()
        ui.keep(f"refused_{overrides.split(':')[0]}")
        assert ui.button("Launch Run").is_disabled()
    assert len(desk.servers.runs()) == runs


def a_run_that_cannot_read_a_dump_shows_its_sentence(desk: Desk) -> None:
    desk.lake.put(f"{places.REVIEW_DUMPS}/broken.csv", b"neither,a\ndump,of reviews\n")
    desk.ui.materialize("ingest")
    run = desk.servers.runs()[0]["id"]
    assert desk.finished(run) == "FAILURE"
    desk.ui.open(f"runs/{run}")
    sentence = desk.ui.page.get_by_text("dump review_dumps/broken.csv (CSV) has no known").first
    sentence.wait_for()  # seen without a click on "View full message"
    desk.ui.keep("failing_dump")


def test_the_schedule_launches_refresh_at_its_time(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWSUM_REFRESH_CRON", "* * * * *")
    with servers_over(lake, tmp_path, monkeypatch) as servers:
        put_dump(lake, late=True)
        with dagster_ui(servers.url, tmp_path / "screenshots") as ui:
            desk = Desk(lake, servers, ui)
            ui.wait_for(lambda: bool(desk.merged()), "a table by the schedule", _RUN_SECONDS)
            ui.open("locations/reviewsum_assets/schedules/refresh_schedule")
            ui.text("1 run requested").wait_for()
            ui.keep("schedule_ticked")


def test_a_person_computes_cancels_and_repairs_and_then_a_new_dump_needs_no_person(
    lake: Lake, servers: DagsterServers, tmp_path: Path
) -> None:
    put_dump(lake, late=False)
    with dagster_ui(servers.url, tmp_path / "screenshots") as ui:
        desk = Desk(lake, servers, ui)
        desk.materialize("ingest")
        total = servers.partition_counts()["numPartitions"]
        assert total > 3 * LANDED

        a_cancelled_run_keeps_what_landed(desk, total)
        a_killed_job_leaves_the_rest_failed(desk, total)
        what_failed_is_computed_and_nothing_else(desk, total)
        desk.materialize("merge")

        before, products = desk.landed(), desk.merged()
        ui.switch_on("new_dumps")
        put_dump(lake, late=True)
        the_pages_show_checks_shares_previews_and_plots(desk)
        the_new_dump_becomes_a_new_table(desk, before, products)


def a_cancelled_run_keeps_what_landed(desk: Desk, total: int) -> None:
    ui = desk.ui
    ui.open(PARTITIONS)
    desk.shows(Missing=total)
    ui.backfill("All")
    job, run = desk.interrupted_job()
    green = len(desk.landed())
    desk.shows(Materialized=green, Materializing=total - green)
    assert desk.servers.run_status(run) == "STARTED"
    ui.keep("green_while_the_job_runs")

    with job.going_on_once_told_to_end():
        ui.terminate(run)
    assert desk.finished(run) == "CANCELED"
    ui.text("Canceled").wait_for()
    ui.keep("cancelled_run")
    ui.open(PARTITIONS)
    green = len(desk.landed())
    desk.shows(Materialized=green, Missing=total - green)
    ui.keep("cancelled_partitions")


def a_killed_job_leaves_the_rest_failed(desk: Desk, total: int) -> None:
    ui = desk.ui
    ui.backfill("Failed and missing")
    job, run = desk.interrupted_job()
    job.kill()
    assert desk.finished(run) == "FAILURE"
    green = len(desk.landed())
    desk.shows(Materialized=green, Failed=total - green)
    ui.keep("killed_half_way")
    ui.open(f"runs/{run}")
    ui.page.get_by_text("was killed by signal 9").first.wait_for()
    ui.keep("why_it_failed")


def what_failed_is_computed_and_nothing_else(desk: Desk, total: int) -> None:
    ui, before = desk.ui, desk.landed()
    ui.open(PARTITIONS)
    ui.backfill("Failed and missing")
    ui.wait_for(lambda: len(desk.landed()) == total, "all checkpoints", _RUN_SECONDS)
    desk.shows(Materialized=total)
    ui.keep("all_green")
    after = desk.landed()
    assert {number: after[number] for number in before} == before


def the_pages_show_checks_shares_previews_and_plots(desk: Desk) -> None:
    ui = desk.ui
    checks = len([*merged_summaries_checks.check_keys, *summary_quality_checks.check_keys])
    ui.open("assets/merged_summaries?view=checks")
    ui.wait_for(lambda: ui.count("Succeeded") == checks, f"{checks} checks", _REFRESH_SECONDS)
    ui.keep("checks")

    ui.open("assets/merged_summaries")
    ui.page.get_by_text("read by the model").last.scroll_into_view_if_needed()
    assert ui.count("[Show Markdown]") == 0, "tables and preview are seen without a click"
    ui.keep("shares")

    ui.open(PARTITIONS)
    ui.text(partition_key(1)).click()
    content = desk.lake.get(places.checkpoint_csv(1))
    assert content is not None
    first = decode_rows(content)[0]
    ui.page.get_by_text(first.abstracted_summary[:60]).wait_for()
    ui.keep("preview")

    ui.open("assets/chunk_summaries")
    ui.button("Plots").click()
    ui.text("products_per_hour").wait_for()
    ui.keep("plots")


def the_new_dump_becomes_a_new_table(
    desk: Desk, before: Mapping[int, object], products: set[str]
) -> None:
    ui = desk.ui
    ui.wait_for(lambda: desk.merged() > products, "a new table", 2 * _RUN_SECONDS)
    ui.wait_for(lambda: desk.succeeded("refresh"), "refresh to succeed", _RUN_SECONDS)
    added = desk.merged() - products
    assert all(is_late(product) for product in added)
    after = desk.landed()
    assert {number: after[number] for number in before} == before

    ui.open("runs")
    ui.text("new_dumps").wait_for()
    assert [run["job"] for run in desk.servers.runs()[:2]] == ["refresh", "merge"]
    ui.keep("one_run_by_the_sensor")
    ui.open("automation")
    ui.text("Standard sensor").wait_for()
    ui.keep("automation")
    ui.open(PARTITIONS)
    desk.shows(Materialized=len(after))
    ui.keep("new_partitions")
    ui.open("assets/merged_summaries")
    ui.text(str(len(products) + len(added))).wait_for()
    ui.keep("new_table")
