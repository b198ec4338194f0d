"""Chromium on the Dagster UI: clicks as a person does them, and keeps what it saw."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from playwright.sync_api import Browser, Locator, Page, sync_playwright

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Read here: tests see no such variables.
_KEPT = os.environ.get("REVIEWSUM_TEST_SCREENSHOTS")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
_SIZE = (1920, 1400)
# Of a click, or of what it brings up, on a machine with much else to do.
_CLICK_SECONDS = 90.0
_STATES = re.compile(r"(Failed|Materialized|Materializing|Missing) \((\d+)\)")

State = Literal["Failed", "Materialized", "Materializing", "Missing"]


@dataclass
class DagsterUI:
    """A browser window on the Dagster UI at ``url``."""

    page: Page
    url: str
    screenshots: Path
    _kept: int = 0

    def open(self, path: str) -> None:
        """Show a page, such as ``assets/chunk_summaries?view=partitions``."""
        self.page.goto(f"{self.url}/{path}")

    def keep(self, name: str) -> None:
        """Keep a screenshot; they are numbered in the order in which they were taken."""
        self._kept += 1
        self.page.screenshot(path=self.screenshots / f"{self._kept:02d}_{name}.png")

    def button(self, text: str) -> Locator:
        """The first button with exactly this text; its accessible name has that of an icon too."""
        exact = re.compile(f"^{re.escape(text)}$")
        return self.page.get_by_role("button").filter(has_text=exact).first

    def text(self, text: str) -> Locator:
        """The first element with exactly this text; the UI measures some texts in a second one."""
        return self.page.get_by_text(text, exact=True).first

    def count(self, text: str) -> int:
        """How many elements have exactly this text now."""
        return self.page.get_by_text(text, exact=True).count()

    def wait_for(self, condition: Callable[[], T], what: str, seconds: float) -> T:
        """Wait until a condition gives something true; the page goes on meanwhile.

        Raises:
            AssertionError: it did not in time.
        """
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s for {what}")
            self.page.wait_for_timeout(300)
        return found

    def materialize(self, job: str) -> None:
        """Launch a job of assets from its page."""
        self.open(f"locations/reviewsum_assets/jobs/{job}")
        self.page.get_by_role("button").filter(has_text="Materialize").first.click()
        self.page.get_by_text("Launched run").wait_for()

    def write_config(self, text: str) -> None:
        """Write a run's configuration into the launchpad that is open."""
        editor = self.page.locator(".CodeMirror").first
        editor.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def backfill(self, selection: Literal["All", "Failed and missing"]) -> None:
        """Materialize partitions of the asset whose page is open, by the partition dialog."""
        self.button("Materialize…").click()
        self.button(selection).click()
        self.wait_for(self.button("Launch backfill").is_enabled, "a selection", _CLICK_SECONDS)
        self.keep(f"dialog_{selection.lower().replace(' ', '_')}")
        self.button("Launch backfill").click()
        self.page.get_by_text("Created backfill").wait_for()

    def partitions(self) -> dict[State, int]:
        """How many partitions are in which state, as the tab of partitions that is open says."""
        found = _STATES.findall(self.page.locator("body").inner_text())
        return {state: int(count) for state, count in found}

    def terminate(self, run_id: str) -> None:
        """Terminate a run from its page, without force."""
        self.open(f"runs/{run_id}")
        self.button("Terminate").click()
        self.button("Terminate 1 run").click()
        self.button("Done").wait_for()  # the run knows by then

    def switch_on(self, sensor: str) -> None:
        """Switch a sensor on, on its page."""
        self.open(f"locations/reviewsum_assets/sensors/{sensor}")
        switch = self.page.get_by_role("checkbox").first
        switch.locator("..").click()
        # It looks on while the server is being told, but cannot be clicked.
        self.wait_for(
            lambda: switch.is_checked() and switch.is_enabled(),
            f"sensor {sensor} to be on",
            _CLICK_SECONDS,
        )


@contextmanager
def dagster_ui(url: str, otherwise: Path, seconds: float = _CLICK_SECONDS) -> Iterator[DagsterUI]:
    """A window on the UI; when a test fails in it, what it showed then is kept too.

    Args:
        url: of the webserver.
        otherwise: folder of screenshots, if REVIEWSUM_TEST_SCREENSHOTS names none.
        seconds: time for a page, or for what a click brings up.

    Raises:
        RuntimeError: Chromium is not installed.
    """
    screenshots = Path(_KEPT or otherwise)
    screenshots.mkdir(parents=True, exist_ok=True)
    width, height = _SIZE
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(seconds * 1000)
        ui = DagsterUI(page, url, screenshots)
        try:
            yield ui
        except Exception:
            ui.keep("failure")
            _log.exception("failed on the page %s, as seen in %s", page.url, screenshots)
            raise


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium without a window.

    Raises:
        RuntimeError: it is not installed.
    """
    path = shutil.which("chromium")
    if path is None:
        raise RuntimeError("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
