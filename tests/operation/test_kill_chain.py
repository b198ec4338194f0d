"""Five dumps, one after the other, while everything that works on them is killed at random moments.

A person launches each step over GraphQL and, after a kill, the next one that is lacking; the
daemon's own retries run beside that. The sensors that would launch steps by themselves look once a
minute, which would make minutes of every kill; they are tested in ``tests/automation``.

Each dump brings new products, reviews that change what the model reads of old ones, and reviews
that it never reads, since they come after ``max_chars``.
"""

from __future__ import annotations

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

import dagster as dg
import pytest

from reviewsum_assets import lake as places
from reviewsum_assets.assets.checkpoint_plan import RANGE_END_TAG, RANGE_START_TAG
from reviewsum_assets.checkpoints.files import SummaryRow, decode_rows
from reviewsum_assets.checkpoints.plan import current_plan, require_plan
from reviewsum_assets.checkpoints.status import lake_status, verify_lake
from reviewsum_assets.compute.local import LocalCompute
from reviewsum_assets.dagster_home import prepare_home
from reviewsum_assets.lake import Lake
from tests.support.dagster_servers import DagsterServers, dagster_servers
from tests.support.dumps import FORMATS, Review, reviews_of, write
from tests.support.pipeline import FAST, SmallPipeline

# Of each victim one. More of them by hand, a kill takes ten seconds.
KILLS = int(os.environ.get("REVIEWSUM_TEST_KILLS", "5"))
SEED = int(os.environ.get("REVIEWSUM_TEST_SEED", "0"))

DUMPS = ("2014", "2018", "2023", "TSV", "Parquet")
VICTIMS = ("daemon", "webserver", "worker", "job", "machine")
SETTINGS = {**FAST, "max_chars": 200, "top_k": 28}
# A process for every step would cost the test a minute.
ONE_PROCESS = {"execution": {"config": {"in_process": {}}}}
_LONGEST_PAUSE = 6.0  # from the moment that a victim is there until it is killed
_STEP_SECONDS = 180.0
_ENDS = ("SUCCESS", "FAILURE", "CANCELED")


def reviews_of_dump(number: int) -> list[Review]:
    """Of the first dump 16 products; of each other one 4 new and more reviews of 6 old ones."""
    if number == 0:
        return [review for n in range(16) for review in reviews_of(f"A{n:03d}")]
    new = [review for n in range(4) for review in reviews_of(f"{'ABCDE'[number]}{n:03d}")]
    # The two products of a checkpoint of the first plan, which is retired by that; and one again.
    changed = [
        Review(product, f"C{number}", f"In dump {number} the verdict is another one.", votes=9)
        for product in (f"A{2 * number - 2:03d}", f"A{2 * number - 1:03d}", "A000")
    ]
    unread = [
        Review(f"A{n:03d}", f"U{number}", f"Nobody reads this of dump {number}.", day=1 + number)
        for n in (13, 14, 15)
    ]
    return new + changed + unread


@dataclass
class Chain:
    """Servers over a lake, and the kills that are to come."""

    servers: DagsterServers
    lake: Lake
    chance: random.Random
    victims: list[str]
    kills: list[str] = field(default_factory=list)
    _moment: float | None = None  # of the next kill
    _valid: dict[str, bytes | None] = field(default_factory=dict)

    def digest(self, victims: list[str]) -> None:
        """Go from a new dump to a merged table that covers it, through these kills."""
        self.victims.extend(victims)
        plan = current_plan(self.lake)
        before = None if plan is None else plan.plan_id
        while not self._succeeds("ingest"):
            pass
        assert require_plan(self.lake).plan_id != before
        while pending := self._pending():
            keys = {RANGE_START_TAG: pending[0], RANGE_END_TAG: pending[-1]}
            self._succeeds("summarize", keys)
        while not self._succeeds("merge"):
            pass
        while self.victims:  # nothing is at work any more
            self._kill("daemon")
        assert verify_lake(self.lake) == []

    def require_nothing_changed(self) -> None:
        """Whatever checkpoint was committed once is still the very same."""
        for key, content in self._valid.items():
            assert self.lake.get(key) == content, f"{key} was written again"
        for item in self.lake.list(places.CHECKPOINT_MANIFESTS):
            self._valid.setdefault(item.key, self.lake.get(item.key))

    def _pending(self) -> list[str]:
        status = lake_status(self.lake)
        assert status is not None
        return [state.planned.partition_key for state in status.incomplete]

    def _succeeds(self, job: str, tags: dict[str, str] | None = None) -> bool:
        """Launch a job and wait for its end, or until the machine it ran on is gone."""
        run_id = self.servers.launch(job, tags=tags, config=ONE_PROCESS)
        started = time.monotonic()
        deadline = time.monotonic() + _STEP_SECONDS
        while (status := self.servers.run_status(run_id)) not in _ENDS:
            self.require_nothing_changed()
            if self._kill_in_time(run_id) == "machine":
                return False
            assert time.monotonic() < deadline, f"run {run_id} of {job} is {status}"
            time.sleep(0.2)
        print(f"  {job} {status} {time.monotonic() - started:.1f} s")
        return status == "SUCCESS"

    def _kill_in_time(self, run_id: str) -> str | None:
        """Kill the next victim if it is there and its moment has come."""
        if not self.victims or not self._is_there(self.victims[0], run_id):
            return None
        if self._moment is None:
            self._moment = time.monotonic() + self.chance.uniform(0.0, _LONGEST_PAUSE)
        if time.monotonic() < self._moment:
            return None
        victim = self.victims[0]
        self._kill(victim, run_id)
        return victim

    def _is_there(self, victim: str, run_id: str) -> bool:
        match victim:
            case "worker":
                return self.servers.run_worker(run_id) is not None
            case "job":
                return bool(self._job_pids())
        return True

    def _kill(self, victim: str, run_id: str = "") -> None:
        jobs = self._job_pids()
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
        print(f"    killed {self.victims[0]}")
        self.kills.append(self.victims.pop(0))
        self._moment = None

    def _job_pids(self) -> list[int]:
        live = LocalCompute(self.lake).live_jobs()
        contents = [(job.directory / "pid") for job in live]
        return [int(path.read_text()) for path in contents if path.exists()]


@pytest.fixture
def chain(
    lake: Lake, pegasus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Chain]:
    """Webserver and daemon over an empty lake."""
    for name, value in {"lake": lake.uri, "model": pegasus, **SETTINGS}.items():
        monkeypatch.setenv(f"REVIEWSUM_{name.upper()}", str(value))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    home = prepare_home()
    with (home / "dagster.yaml").open("a") as config:
        config.write("run_queue:\n  dequeue_interval_seconds: 1\n")
    with dagster_servers(home, dict(os.environ)) as servers:
        yield Chain(servers, lake, random.Random(SEED), [])


def test_a_chain_of_dumps_through_kills_ends_as_one_ingest_of_all(
    chain: Chain, instance: dg.DagsterInstance, pegasus: Path, tmp_path: Path
) -> None:
    victims = [VICTIMS[n % len(VICTIMS)] for n in range(KILLS)]
    chain.chance.shuffle(victims)
    print(f"seed {SEED}: {', '.join(victims)}")
    lake = chain.lake
    assert lake.directory is not None
    for number, layout in enumerate(DUMPS):
        started = time.monotonic()
        content = FORMATS[layout](reviews_of_dump(number))
        write(lake.directory / places.REVIEW_DUMPS / f"dump_{number}", content)
        chain.digest(victims[number :: len(DUMPS)])
        print(f"dump {number}: {time.monotonic() - started:.1f} s")
    assert Counter(chain.kills) == Counter(victims)

    dumps = [lake.directory / item.key for item in lake.list(places.REVIEW_DUMPS)]
    assert merged(lake) == uninterrupted(tmp_path / "other", instance, pegasus, dumps)
    plan = require_plan(lake)
    assert len(plan.retired) >= len(DUMPS) - 1
    chain.require_nothing_changed()
    assert len(lake.list(places.CHECKPOINT_MANIFESTS)) == len(plan.checkpoints + plan.retired)
    assert max(landings(lake).values()) == 1


def kill(*pids: int | None) -> None:
    for pid in pids:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


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
