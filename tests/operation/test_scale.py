"""Many partitions: what the webserver, the sensors and the pages take, as users meet them.

REVIEWSUM_TEST_CHECKPOINTS says how many; `pytest -n 0 -s` shows the figures. Nothing asserts them,
since a machine may be as slow as it likes: a daemon gives a tick one minute, and on an idle machine
none takes more than five seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Locator

from reviewsum_assets.assets.dagster_home import prepare_home
from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.plan import partition_key
from reviewsum_assets.storage.lake import Lake
from tests.support.browser import DagsterUI, dagster_ui
from tests.support.checkpoints import complete, plan_products, products
from tests.support.dagster_servers import DagsterServers

# Read here: tests see no such variables.
CHECKPOINTS = int(os.environ.get("REVIEWSUM_TEST_CHECKPOINTS", "1000"))
_TICK_SECONDS = 300
_PAGE_SECONDS = 300.0
_ASSET = "assets/chunk_summaries"

pytestmark = pytest.mark.drill


@dataclass
class Figures:
    """Seconds, by what took them; printed as they come."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds.setdefault(what, []).append(time.monotonic() - started)

    def __str__(self) -> str:
        lines = (
            f"{what:<50} {len(some):>4} x {max(some):6.1f} s at most"
            for what, some in self.seconds.items()
        )
        return "\n".join((f"\n{CHECKPOINTS:,} partitions", *lines))


@pytest.fixture
def servers(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterServers]:
    """A webserver, not started, of an instance that knows nothing of a finished lake."""
    plan = plan_products(lake, products(CHECKPOINTS), top_k=CHECKPOINTS, checkpoint_size=1).plan
    complete(lake, plan)
    merge_checkpoints(lake, plan)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REVIEWSUM_LAKE", lake.uri)
    monkeypatch.setenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", str(_TICK_SECONDS))
    found = DagsterServers(prepare_home(), dict(os.environ))
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def figures() -> Iterator[Figures]:
    """Shown however the test ends."""
    figures = Figures()
    yield figures
    print(figures)  # noqa: T201 - what this is for


def ticks_until(servers: DagsterServers, figures: Figures, sensor: str, end: str) -> None:
    """Ticks until one says ``end``, and one more, which finds nothing new."""
    told, cursor = "", None
    while end not in told:
        with figures.of(f"{sensor}, while there is something new"):
            result = servers.tick(sensor, cursor)
        told, cursor = result["skipReason"] or "", result["cursor"]
        assert not result["runRequests"]
    with figures.of(f"{sensor}, nothing new"):
        assert end in servers.tick(sensor, cursor)["skipReason"]


def test_sensors_and_pages_manage_many_partitions(
    servers: DagsterServers, figures: Figures, tmp_path: Path
) -> None:
    with figures.of("webserver up, definitions loaded"):
        servers.start("webserver")

    ticks_until(servers, figures, "reconcile_checkpoints", "Dagster and the lake agree")
    assert servers.partition_counts()["numMaterialized"] == CHECKPOINTS
    with dagster_ui(servers.url, tmp_path / "screenshots", seconds=_PAGE_SECONDS) as ui:
        open_pages(ui, figures)


def open_pages(ui: DagsterUI, figures: Figures) -> None:
    last = partition_key(CHECKPOINTS)
    for name, path, words in (
        ("any page, nothing cached", "assets", "chunk_summaries"),
        ("asset page", f"{_ASSET}?view=overview", "tokens_out"),
        ("its partitions", f"{_ASSET}?view=partitions", f"Materialized ({CHECKPOINTS})"),
        ("one partition", f"{_ASSET}?view=partitions&partition={last}", "tokens_out"),
        ("its events", f"{_ASSET}?view=events", last),
        ("lineage of all assets", "asset-groups", "chunk_summaries"),
        ("merged table", "assets/merged_summaries", "completeness"),
    ):
        with figures.of(name):
            ui.open(path)
            visible(ui, words).wait_for()
        ui.keep(f"scale_{name.replace(' ', '_')}")
    ui.open(f"{_ASSET}?view=partitions")
    with figures.of("partition dialog, all chosen"):
        visible(ui, "Materialize…").click()
        visible(ui, "Confirm").click()  # that what comes before was not made by this instance
        ui.button("All").click()
        ui.page.get_by_role("button", disabled=False).filter(has_text="Launch backfill").wait_for()
    ui.keep("scale_partition_dialog")


def visible(ui: DagsterUI, words: str) -> Locator:
    return ui.page.get_by_text(words, exact=True).filter(visible=True).first
