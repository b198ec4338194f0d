"""The parent process of a job: starts one worker a device and deals checkpoints among them.

Sharing is dynamic: a worker that is done early takes the next lease. A worker that dies costs
what it had leased, which is dealt once more; a second death fails those checkpoints and no others.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.job.devices import WorkerDevice, worker_devices
from reviewsum_assets.job.job_objects import hosts_prefix
from reviewsum_assets.job.model_directory import read_ready_model
from reviewsum_assets.job.progress import ProgressReporter
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.job.worker import (
    Broken,
    Failed,
    Generated,
    Idle,
    Landed,
    Lease,
    Report,
    WorkerOptions,
    worker_main,
)
from reviewsum_assets.lake import Lake

EXIT_OK = 0
EXIT_FAILED = 3
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run it again to finish

_LEASES_A_CHECKPOINT = 2
_POLL_SECONDS = 0.5


class JobResult(BaseModel):
    """How a job ended; ``failed`` says why, by checkpoint number."""

    model_config = ConfigDict(frozen=True)

    landed: tuple[int, ...]
    already_valid: tuple[int, ...]
    failed: dict[int, str]
    stopped: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """0: everything landed; 3: something failed; 75: stopped by a signal."""
        if self.stopped:
            return EXIT_STOPPED
        return EXIT_FAILED if self.failed else EXIT_OK


def read_result(lake: Lake, job_name: str) -> JobResult | None:
    """The result of a job, that of all its hosts together; None if no host ended by itself.

    Raises:
        ValidationError: a result is not one that this version can read.
    """
    keys = [item.key for item in lake.list(hosts_prefix(job_name))]
    contents = lake.get_many([key for key in keys if key.endswith("/result.json")])
    results = [JobResult.model_validate_json(content) for content in contents if content]
    if not results:
        return None
    return JobResult(
        landed=tuple(sorted(n for result in results for n in result.landed)),
        already_valid=tuple(sorted(n for result in results for n in result.already_valid)),
        failed={n: why for result in results for n, why in result.failed.items()},
        stopped=any(result.stopped for result in results),
        seconds=max(result.seconds for result in results),
    )


def run_job(
    lake: Lake,
    spec: JobSpec,
    reporter: ProgressReporter,
    should_stop: Callable[[], bool],
    instance_type: str,
) -> JobResult:
    """Compute the checkpoints of ``spec`` that are not valid yet.

    Args:
        lake: the one that ``spec`` names.
        spec: what to compute.
        reporter: told of progress.
        should_stop: asked twice a second; when true, workers are ended at once. Objects are
            written whole, so that only unfinished work is lost.
        instance_type: for the manifests.
    """
    started = time.monotonic()
    valid: set[int] = set()
    if not spec.recompute:
        states = check_checkpoints(lake, spec.checkpoints)
        valid = {state.planned.number for state in states if state.is_valid}
    reporter.landed.update(valid)
    dealer = _Dealer(spec, [c for c in spec.checkpoints if c.number not in valid], reporter)
    if dealer.has_work:
        devices = worker_devices(spec.engine, _largest_model(lake, spec))
        options = [
            WorkerOptions(spec, device.gpu, device.threads, instance_type) for device in devices
        ]
        reporter.info(_opening(spec, len(valid), devices))
        _Crew(dealer, options).work(should_stop)
    return JobResult(
        landed=tuple(sorted(dealer.landed)),
        already_valid=tuple(sorted(valid)),
        failed=dealer.failed,
        stopped=bool(dealer.unfinished) and should_stop(),
        seconds=time.monotonic() - started,
    )


class _Dealer:
    """Knows what is still to be done, and what became of the rest."""

    def __init__(
        self, spec: JobSpec, pending: list[PlannedCheckpoint], reporter: ProgressReporter
    ) -> None:
        self.reporter = reporter
        self.landed: set[int] = set()
        self.failed: dict[int, str] = {}
        self.unfinished = {planned.number: planned for planned in pending}
        self._pool_products = spec.engine.batch_size
        self._pending = deque(pending)
        self._leases: Counter[int] = Counter()

    @property
    def has_work(self) -> bool:
        """Whether a worker could be given a lease now."""
        return bool(self._pending)

    def next_lease(self) -> tuple[PlannedCheckpoint, ...]:
        """The next checkpoints of one recipe that make a pool worth batching."""
        lease = [self._pending.popleft()]
        while (
            self._pending
            and self._pending[0].recipe == lease[0].recipe
            and sum(planned.products for planned in lease) < self._pool_products
        ):
            lease.append(self._pending.popleft())
        self._leases.update(planned.number for planned in lease)
        return tuple(lease)

    def land(self, number: int, message: str) -> None:
        """Note a committed checkpoint."""
        if self.unfinished.pop(number, None) is not None:
            self.landed.add(number)
            self.reporter.checkpoint_landed(number, message)

    def fail(self, number: int, reason: str) -> None:
        """Note a checkpoint that this job gives up."""
        planned = self.unfinished.pop(number, None)
        if planned is not None:
            self.failed[number] = reason
            self.reporter.error(f"{planned.partition_key} failed: {reason}")

    def take_back(self, numbers: Iterable[int], reason: str) -> None:
        """A worker died: deal its checkpoints again, or give up those that were dealt before."""
        for number in sorted(numbers, reverse=True):
            if number in self.unfinished:
                if self._leases[number] < _LEASES_A_CHECKPOINT:
                    self._pending.appendleft(self.unfinished[number])
                else:
                    self.fail(number, reason)

    def give_up(self, reason: str) -> None:
        """Fail everything that is left."""
        self._pending.clear()
        for number in sorted(self.unfinished):
            self.fail(number, reason)


@dataclass
class _Member:
    """One worker process as its parent sees it."""

    options: WorkerOptions
    process: SpawnProcess
    connection: Connection
    leased: set[int] = field(default_factory=set)
    idle: bool = False
    broken: str | None = None


class _Crew:
    """The workers of a job."""

    def __init__(self, dealer: _Dealer, options: list[WorkerOptions]) -> None:
        self._dealer = dealer
        self._options = options
        self._members: list[_Member] = []
        # So many deaths with nothing landed in between mean that no worker can work.
        self._deaths_allowed = 4 + 2 * len(options)
        self._barren_deaths = 0

    def work(self, should_stop: Callable[[], bool]) -> None:
        """Deal until nothing is left or a stop is asked for; no worker outlives this call."""
        try:
            self._members = [self._hire(options) for options in self._options]
            while self._dealer.unfinished and not should_stop():
                self._listen()
                self._deal()
            if not self._dealer.unfinished:
                self._dismiss()
        finally:
            for member in self._members:
                member.process.kill()
                member.process.join()

    def _hire(self, options: WorkerOptions) -> _Member:
        # Spawn, not fork: CUDA and the lake's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=worker_main, args=(theirs, options), daemon=True)
        process.start()
        theirs.close()
        return _Member(options, process, ours)

    def _listen(self) -> None:
        by_connection = {member.connection: member for member in self._members}
        for connection in wait(list(by_connection), _POLL_SECONDS):
            assert isinstance(connection, Connection)
            member = by_connection[connection]
            try:
                self._handle(member, connection.recv())
            except (EOFError, OSError):  # its end of the pipe closed with the process
                self._bury(member)

    def _handle(self, member: _Member, report: Report) -> None:
        match report:
            case Idle():
                member.idle = True
            case Generated(number, chunks, share, memory):
                self._dealer.reporter.generated(number, chunks, share, memory)
            case Landed(number, message):
                self._barren_deaths = 0
                member.leased.discard(number)
                self._dealer.land(number, message)
            case Failed(number, reason):
                member.leased.discard(number)
                self._dealer.fail(number, reason)
            case Broken(reason):
                member.broken = reason

    def _deal(self) -> None:
        for member in self._members:
            if member.idle and self._dealer.has_work:
                lease = self._dealer.next_lease()
                member.idle = False
                member.leased.update(planned.number for planned in lease)
                member.connection.send(Lease(lease))

    def _bury(self, member: _Member) -> None:
        """Take back what a dead worker had, and hire another if there is work for it."""
        member.process.join()
        self._members.remove(member)
        reason = member.broken or _death(member.process.exitcode)
        self._dealer.reporter.error(f"worker {member.process.pid} ended: {reason}")
        self._dealer.take_back(member.leased, reason)
        self._barren_deaths += 1
        if self._barren_deaths >= self._deaths_allowed:
            self._dealer.give_up(f"no worker can work: {reason}")
        elif self._dealer.has_work:
            self._members.append(self._hire(member.options))

    def _dismiss(self) -> None:
        for member in self._members:
            try:
                member.connection.send(Lease(()))
            except OSError:
                continue  # it died after its last report; nothing of its work is missing
        for member in self._members:
            member.process.join(_POLL_SECONDS)


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        hint = ", as the kernel does when memory runs out" if exit_code == -9 else ""
        return f"its process was killed by signal {-exit_code}{hint}"
    return f"its process ended with code {exit_code}"


def _largest_model(lake: Lake, spec: JobSpec) -> int:
    """Parameters of the largest model the job needs, to fit workers into memory."""
    versions = {recipe.model_version for recipe in spec.recipes.values()}
    return max(read_ready_model(lake, version).parameters for version in versions)


def _opening(spec: JobSpec, valid: int, devices: list[WorkerDevice]) -> str:
    skipped = f", {valid} of them already valid" if valid else ""
    where = ", ".join(str(device) for device in devices)
    return (
        f"job {spec.name}: {len(spec.checkpoints)} checkpoints{skipped}, "
        f"{spec.products} products, workers: {where}"
    )
