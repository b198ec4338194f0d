"""Five dumps, one after the other, while everything that works on them is killed at random moments.

A person launches each step over GraphQL and, after a kill, whatever is lacking; the daemon's own
retries run beside that. The sensors that would launch steps by themselves look once a minute, which
would make minutes of every kill; they are tested in ``tests/automation``.
"""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from reviewsum_assets.assets.dagster_home import prepare_home
from reviewsum_assets.assets.partitions import RANGE_END_TAG, RANGE_START_TAG
from reviewsum_assets.checkpoints.manifest import SummaryRow, decode_rows
from reviewsum_assets.checkpoints.plan import require_plan
from reviewsum_assets.compute.local import LocalCompute, LocalJob
from reviewsum_assets.lake_state import lake_status, verify_lake
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.dagster_servers import DagsterServers, dagster_servers
from tests.support.dumps import FORMATS, Review, reviews_of, write
from tests.support.pipeline import FAST, SmallPipeline
from tests.support.ready_models import put_ready_model

# One of each victim but the machine, which is all of them at once. With more kills, by hand, every
# dump is summarized and merged before the next one comes; one kill takes about ten seconds.
KILLS = int(os.environ.get("REVIEWSUM_TEST_KILLS", "4"))
SEED = int(os.environ.get("REVIEWSUM_TEST_SEED", "0"))
VICTIMS = ("daemon", "webserver", "worker", "job", "machine")

DUMPS = ("2014", "2018", "2023", "TSV", "Parquet")
SETTINGS = {**FAST, "batch_size": 2, "max_chars": 200, "top_k": 36}
# A process for every step of a run would take a minute more.
ONE_PROCESS: dict[str, Any] = {"execution": {"config": {"in_process": {}}}}

_LONGEST_PAUSE = 6.0  # from the moment that a victim is there until it is killed
_STEP_SECONDS = 300.0
_ENDS = ("SUCCESS", "FAILURE", "CANCELED")
_log = logging.getLogger(__name__)

pytestmark = pytest.mark.drill


def reviews_of_dump(number: int) -> list[Review]:
    """Of the first dump 24 products; of each other one 4 new, and more reviews of 6 old ones.

    Three of these get a review that the model reads: both products of a checkpoint of the first
    plan, which is retired by that, and one that changes every time. The others get reviews that
    nobody reads, since they come after ``max_chars``.
    """
    if number == 0:
        return [review for n in range(24) for review in reviews_of(f"A{n:03d}")]
    new = [review for n in range(4) for review in reviews_of(f"{'ABCDE'[number]}{n:03d}")]
    read = [
        Review(product, f"C{number}", f"In dump {number} the verdict is another one.", votes=9)
        for product in (f"A{2 * number - 2:03d}", f"A{2 * number - 1:03d}", "A023")
    ]
    unread = [
        Review(f"A{n:03d}", f"U{number}", f"Nobody reads this of dump {number}.", day=1 + number)
        for n in (20, 21, 22)
    ]
    return new + read + unread


@dataclass
class Chain:
    """Servers over a lake, and the kills that are to come."""

    servers: DagsterServers
    lake: Lake
    chance: random.Random
    victims: list[str] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    _moment: float | None = None  # of the next kill
    _committed: dict[str, bytes | None] = field(default_factory=dict)

    def ingest(self) -> None:
        """Plan what a new dump has changed."""
        before = len(self.lake.list(f"{places.PLANS}/tables"))
        while not self._succeeds("ingest"):
            pass
        assert len(self.lake.list(f"{places.PLANS}/tables")) == before + 1

    def summarize(self) -> None:
        """Compute what is pending."""
        while pending := self._pending():
            keys = {RANGE_START_TAG: pending[0], RANGE_END_TAG: pending[-1]}
            self._succeeds("summarize", keys)

    def merge(self) -> None:
        """Make a table of what was computed."""
        while not self._succeeds("merge"):
            pass
        assert verify_lake(self.lake) == []

    def require_nothing_changed(self) -> None:
        """Whatever checkpoint was committed once is still the very same."""
        for key, content in self._committed.items():
            assert self.lake.get(key) == content, f"{key} was written again"
        for item in self.lake.list(places.CHECKPOINT_MANIFESTS):
            self._committed.setdefault(item.key, self.lake.get(item.key))

    def kill(self, victim: str, run_id: str = "") -> None:
        """Kill it, and start it again if that is a server."""
        jobs = self._job_pids()
        if jobs and self.chance.random() < 0.5:
            self._wait_for_a_landing()
        match victim:
            case "worker":
                kill(self.servers.run_worker(run_id))
            case "job":
                kill(*jobs)
            case "machine":
                self.servers.kill_all()
                kill(*jobs)
                self.servers.start()
            case _:
                self.servers.kill(victim)
                self.servers.start(victim)
        self.kills.append(victim)
        self._moment = None
        _log.warning("killed %s, %d manifests", victim, len(self._manifests()))

    def _pending(self) -> list[str]:
        status = lake_status(self.lake)
        assert status is not None
        return [state.planned.partition_key for state in status.incomplete]

    def _succeeds(self, job: str, tags: dict[str, str] | None = None) -> bool:
        """Launch a job and wait for its end, or until the machine it ran on is gone."""
        run_id = self.servers.launch(job, tags=tags, config=ONE_PROCESS)
        deadline = time.monotonic() + _STEP_SECONDS
        while (status := self.servers.run_status(run_id)) not in _ENDS:
            self.require_nothing_changed()
            if self._is_time_for(run_id):
                victim = self.victims.pop(0)
                self.kill(victim, run_id)
                if victim == "machine":
                    return False
            assert time.monotonic() < deadline, f"run {run_id} of {job} is {status}"
            time.sleep(0.2)
        _log.warning("%s: %s", job, status)
        return status == "SUCCESS"

    def _is_time_for(self, run_id: str) -> bool:
        """Whether the next victim is there and its moment has come."""
        if not self.victims or not self._is_there(self.victims[0], run_id):
            return False
        if self._moment is None:
            self._moment = time.monotonic() + self.chance.uniform(0.0, _LONGEST_PAUSE)
        return time.monotonic() >= self._moment

    def _is_there(self, victim: str, run_id: str) -> bool:
        match victim:
            case "worker":
                return self.servers.run_worker(run_id) is not None
            case "job":
                return bool(self._job_pids())
        return True

    def _wait_for_a_landing(self) -> None:
        """So that a job is killed between two checkpoints, which take it milliseconds."""
        before = self._manifests()
        while self._job_pids() and self._manifests() == before:
            time.sleep(0.005)
        time.sleep(self.chance.uniform(0.0, 0.03))

    def _manifests(self) -> list[str]:
        return [item.key for item in self.lake.list(places.CHECKPOINT_MANIFESTS)]

    def _job_pids(self) -> list[int]:
        live = LocalCompute(self.lake).live_jobs()
        files = [job.directory / "pid" for job in live if isinstance(job, LocalJob)]
        return [int(file.read_text()) for file in files if file.exists()]


@pytest.fixture
def chain(
    lake: Lake, pegasus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Chain]:
    """Webserver and daemon over a lake that holds nothing but a ready model."""
    put_ready_model(lake, pegasus)
    for name, value in {"lake": lake.uri, "model": pegasus, **SETTINGS}.items():
        monkeypatch.setenv(f"REVIEWSUM_{name.upper()}", str(value))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    home = prepare_home()
    with (home / "dagster.yaml").open("a") as config:
        config.write("run_queue:\n  dequeue_interval_seconds: 1\n")
    with dagster_servers(home, dict(os.environ)) as servers:
        yield Chain(servers, lake, random.Random(SEED))


def test_a_chain_of_dumps_through_kills_ends_as_one_ingest_of_all(
    chain: Chain, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    lake = chain.lake
    assert lake.directory is not None
    by_hand = len(VICTIMS) < KILLS
    victims = [VICTIMS[n % len(VICTIMS)] for n in range(KILLS)]
    chain.chance.shuffle(victims)
    _log.warning("REVIEWSUM_TEST_SEED=%d: %s", SEED, ", ".join(victims))
    for number, layout in enumerate(DUMPS):
        content = FORMATS[layout](reviews_of_dump(number))
        write(lake.directory / places.REVIEW_DUMPS / f"dump_{number}", content)
        chain.victims += victims[number :: len(DUMPS)]
        chain.ingest()
        if by_hand or number % 2 == 0:
            chain.summarize()
        if by_hand or layout == DUMPS[-1]:
            chain.merge()
    for _ in chain.victims:  # whose moment has not come
        chain.kill("daemon")
    assert len(chain.kills) == KILLS
    nothing_goes_on(chain.servers)

    dumps = [lake.directory / item.key for item in lake.list(places.REVIEW_DUMPS)]
    assert merged(lake) == uninterrupted(tmp_path / "other", instance, pegasus, dumps)
    assert verify_lake(lake) == []
    assert len(require_plan(lake).retired) >= len(DUMPS) - 1
    chain.require_nothing_changed()
    assert max(landings(lake).values()) == 1


def kill(*pids: int | None) -> None:
    for pid in pids:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def nothing_goes_on(servers: DagsterServers) -> None:
    """Wait until every run has ended, those that lost their machine too."""

    def has_ended() -> bool:
        servers.tick("stop_abandoned_jobs")
        return all(run["status"] in _ENDS for run in servers.runs())

    servers.wait_for(has_ended, "every run to end", _STEP_SECONDS)


def merged(lake: Lake) -> list[SummaryRow]:
    """The merged table; by product, since its order is that in which checkpoints were planned."""
    return sorted(decode_rows(lake.get(places.MERGED_CSV) or b""))


def landings(lake: Lake) -> Counter[str]:
    """How often each checkpoint was landed, by the logs of all jobs."""
    logs = [item.key for item in lake.list(places.PROCESSING_JOBS) if item.key.endswith("/job.log")]
    told = b"\n".join(content or b"" for content in lake.get_many(logs)).decode()
    return Counter(re.findall(r"(checkpoint_\d+) landed", told))


def uninterrupted(
    folder: Path, instance: dg.DagsterInstance, model: Path, dumps: list[Path]
) -> list[SummaryRow]:
    """The merged table of one ingest of all dumps, on a lake of its own."""
    lake = Lake.open(str(folder))
    small = SmallPipeline.build(instance, lake, model, dumps[0], **SETTINGS)
    small = small.with_settings(dumps=tuple(map(str, dumps)))
    assert small.execute("ingest").success
    assert small.summarize(small.checkpoints[0], small.checkpoints[-1]).success
    assert small.execute("merge").success
    return merged(lake)
