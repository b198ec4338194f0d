"""The parent process of a job: starts one worker a device and deals checkpoints among them.

Sharing is dynamic: a worker that is done early takes the next lease. A worker that dies costs
what it had leased, which is dealt once more; a second death fails those checkpoints and no others.
A job with a budget deals no lease that could outlast it.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pydantic import BaseModel, ConfigDict, ValidationError

from reviewsum_assets.checkpoints.plan import PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.errors import first_problem
from reviewsum_assets.job.budget import BudgetKeeper
from reviewsum_assets.job.devices import WorkerDevice, worker_devices
from reviewsum_assets.job.job_objects import hosts_prefix
from reviewsum_assets.job.loaded_model import WorkerOptions
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
    Skipped,
    worker_main,
)
from reviewsum_assets.lake import Lake

EXIT_OK = 0
EXIT_FAILED = 3
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run it again to finish

_log = logging.getLogger("reviewsum.job")

_LEASES_A_CHECKPOINT = 2
_POLL_SECONDS = 0.5

_log = logging.getLogger("reviewsum.job")


class JobResult(BaseModel):
    """How a job ended; ``failed`` says why, by checkpoint number."""

    model_config = ConfigDict(frozen=True)

    landed: tuple[int, ...]
    already_valid: tuple[int, ...]
    failed: dict[int, str]
    stopped: bool
    seconds: float
    budget_reached: str = ""  # what was reached and what is left, a sentence

    @property
    def exit_code(self) -> int:
        """0: all landed, or the budget was reached; 3: something failed; 75: a signal came."""
        if self.stopped:
            return EXIT_STOPPED
        return EXIT_FAILED if self.failed else EXIT_OK


def read_result(lake: Lake, job_name: str) -> JobResult | None:
    """The result of a job, that of all its hosts together; None if no host ended by itself.

    One that cannot be read is logged and left out: what landed, the checkpoints tell.
    """
    listed = [item.key for item in lake.list(hosts_prefix(job_name))]
    keys = [key for key in listed if key.endswith("/result.json")]
    results: list[JobResult] = []
    for key, content in zip(keys, lake.get_many(keys), strict=True):
        try:
            results.append(JobResult.model_validate_json(content or b""))
        except ValidationError as error:
            _log.warning("%s cannot be read: %s", lake.uri_of(key), first_problem(error))
    if not results:
        return None
    return JobResult(
        landed=tuple(sorted(n for result in results for n in result.landed)),
        already_valid=tuple(sorted(n for result in results for n in result.already_valid)),
        failed={n: why for result in results for n, why in result.failed.items()},
        stopped=any(result.stopped for result in results),
        seconds=max(result.seconds for result in results),
        budget_reached="; ".join(
            result.budget_reached for result in results if result.budget_reached
        ),
    )


def run_job(
    lake: Lake,
    spec: JobSpec,
    reporter: ProgressReporter,
    should_stop: Callable[[], bool],
    instance_type: str,
    clock: Callable[[], float] = time.monotonic,
    seconds_before: float = 0.0,
) -> JobResult:
    """Compute the checkpoints of ``spec`` that are not valid yet.

    Args:
        lake: the one that ``spec`` names.
        spec: what to compute.
        reporter: told of progress.
        should_stop: asked twice a second; when true, workers are ended at once. Objects are
            written whole, so that only unfinished work is lost.
        instance_type: for the manifests.
        clock: that the budget goes by, in seconds.
        seconds_before: what of the budget was spent before this call.
    """
    started = time.monotonic()
    keeper = BudgetKeeper(spec, clock, seconds_before)
    valid: set[int] = set()
    if not spec.recompute:
        states = check_checkpoints(lake, spec.checkpoints)
        valid = {state.planned.number for state in states if state.is_valid}
    reporter.landed.update(valid)
    pending = [c for c in spec.checkpoints if c.number not in valid]
    dealer = _Dealer(pending, reporter, keeper)
    if dealer.has_work:
        devices = worker_devices(spec.engine, _largest_model(lake, spec))
        dealer.pool_products = spec.engine.pool_products(on_gpu=devices[0].gpu is not None)
        options = [WorkerOptions(spec, device, instance_type) for device in devices]
        reporter.info(_opening(spec, len(valid), devices))
        _Crew(dealer, options).work(should_stop)
    budget_reached = keeper.sentence(len(dealer.landed), len(dealer.unfinished))
    if budget_reached:
        reporter.info(budget_reached)
    return JobResult(
        landed=tuple(sorted(dealer.landed)),
        already_valid=tuple(sorted(valid | dealer.skipped)),
        failed=dealer.failed,
        stopped=bool(dealer.unfinished) and should_stop(),
        seconds=time.monotonic() - started,
        budget_reached=budget_reached,
    )


class _Dealer:
    """Knows what is still to be done, and what became of the rest."""

    def __init__(
        self,
        pending: list[PlannedCheckpoint],
        reporter: ProgressReporter,
        keeper: BudgetKeeper,
    ) -> None:
        self.reporter = reporter
        self.landed: set[int] = set()
        self.skipped: set[int] = set()
        self.failed: dict[int, str] = {}
        self.unfinished = {planned.number: planned for planned in pending}
        self.pool_products = 1
        self._keeper = keeper
        self._pending = deque(pending)
        self._leases: Counter[int] = Counter()

    @property
    def has_work(self) -> bool:
        """Whether a worker could be given a lease now."""
        return bool(self._pending) and not self._keeper.is_reached

    def next_lease(self, held: Collection[int], workers: int) -> tuple[PlannedCheckpoint, ...]:
        """The next checkpoints of one recipe that make a pool worth batching.

        Empty if the budget has no room for them; there is no work from then on.

        Args:
            held: numbers of the checkpoints that the worker is still busy with.
            workers: that share what is left; towards the end, leases become smaller, so that all
                workers end at about the same time.
        """
        left = sum(planned.products for planned in self._pending)
        enough = min(self.pool_products, left / (2 * workers))
        lease: list[PlannedCheckpoint] = []
        for planned in self._pending:
            is_full = sum(leased.products for leased in lease) >= enough
            if lease and (is_full or not self._go_together(lease[0], planned)):
                break
            lease.append(planned)
        if not self._keeper.fits(
            [*(self.unfinished[n] for n in held if n in self.unfinished), *lease]
        ):
            return ()
        for planned in lease:
            self._pending.popleft()
            self._leases[planned.number] += 1
        return tuple(lease)

    def _go_together(self, first: PlannedCheckpoint, other: PlannedCheckpoint) -> bool:
        """Whether one lease may hold both; what a worker died of goes alone, to take none along."""
        was_leased = self._leases[first.number] or self._leases[other.number]
        return first.recipe == other.recipe and not was_leased

    def land(self, number: int, message: str, seconds: float) -> None:
        """Note a committed checkpoint, into which a worker put so many seconds."""
        planned = self.unfinished.pop(number, None)
        if planned is not None:
            self.landed.add(number)
            self._keeper.measured(planned, seconds)
            self.reporter.checkpoint_landed(number, message)

    def skip(self, number: int) -> None:
        """Note a checkpoint that was valid when its turn came."""
        if self.unfinished.pop(number, None) is not None:
            self.skipped.add(number)
            self.reporter.landed.add(number)

    def fail(self, number: int, reason: str) -> None:
        """Note a checkpoint that this job gives up."""
        planned = self.unfinished.pop(number, None)
        if planned is not None:
            self.failed[number] = reason
            self.reporter.error(f"{planned.partition_key} failed: {reason}")

    def take_back(self, leases: Sequence[Collection[int]], reason: str) -> None:
        """A worker died: deal its checkpoints again, or give up those that were dealt before.

        Args:
            leases: what it was busy with, oldest first. Only the first is held against its
                checkpoints: the worker had at most read the others.
            reason: of its death.
        """
        suspects = leases[0] if leases else ()
        for number in sorted({n for lease in leases for n in lease}, reverse=True):
            if number in self.unfinished:
                if number not in suspects:
                    self._leases[number] -= 1
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
    leases: list[set[int]] = field(default_factory=list)  # not empty, oldest first
    idle: bool = False
    broken: str | None = None

    @property
    def held(self) -> set[int]:
        """Numbers of the checkpoints that it has not reported on yet."""
        return {number for lease in self.leases for number in lease}

    def reported(self, number: int) -> None:
        """Note that it is done with a checkpoint, one way or another."""
        for lease in self.leases:
            lease.discard(number)
        self.leases = [lease for lease in self.leases if lease]


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
            while self._goes_on and not should_stop():
                self._listen()
                self._deal()
            if not self._goes_on:
                self._dismiss()
        finally:
            for member in self._members:
                member.process.kill()
                member.process.join()

    @property
    def _goes_on(self) -> bool:
        """Whether there is work, in progress or to be dealt."""
        in_progress = any(member.leases for member in self._members)
        return bool(self._dealer.unfinished) and (in_progress or self._dealer.has_work)

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
            case Landed(number, message, seconds):
                self._barren_deaths = 0
                member.reported(number)
                self._dealer.land(number, message, seconds)
            case Skipped(number):
                member.reported(number)
                self._dealer.skip(number)
            case Failed(number, reason):
                member.reported(number)
                self._dealer.fail(number, reason)
            case Broken(reason):
                member.broken = reason

    def _deal(self) -> None:
        # Those that have nothing first: the others only read ahead.
        for member in sorted(self._members, key=lambda member: len(member.leases)):
            if member.idle and self._dealer.has_work:
                lease = self._dealer.next_lease(member.held, len(self._members))
                if not lease:
                    return
                member.idle = False
                member.leases.append({planned.number for planned in lease})
                member.connection.send(Lease(lease))

    def _bury(self, member: _Member) -> None:
        """Take back what a dead worker had, and hire another if there is work for it."""
        member.process.join()
        self._members.remove(member)
        reason = member.broken or death(member.process.exitcode)
        self._dealer.reporter.error(f"worker {member.process.pid} ended: {reason}")
        self._dealer.take_back(member.leases, reason)
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


def death(exit_code: int | None) -> str:
    """How a process ended that said nothing: negative codes are signals, as in subprocess."""
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
