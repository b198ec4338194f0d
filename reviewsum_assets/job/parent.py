"""The parent process of a job: starts one worker per device and handles their reports."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import polars as pl

from reviewsum_assets.checkpoints.merge import merge_checkpoints
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.checkpoints.validity import check_checkpoints
from reviewsum_assets.job.dealer import BudgetKeeper, Dealer
from reviewsum_assets.job.devices import unused_gpus, worker_devices
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import read_ready_model, ready_model
from reviewsum_assets.job.models.loaded import WorkerOptions
from reviewsum_assets.job.progress import JobResult, ProgressReporter, death
from reviewsum_assets.job.spec import JobSpec, job_spec
from reviewsum_assets.job.worker import (
    Broken,
    Finished,
    Generated,
    Generating,
    Idle,
    Report,
    worker_main,
)
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage.lake import Lake

_POLL_SECONDS = 0.5


def run_job(
    lake: Lake,
    spec: JobSpec,
    reporter: ProgressReporter,
    should_stop: Callable[[], bool],
    instance_type: str,
    seconds_before: float = 0.0,
) -> JobResult:
    """Compute the checkpoints of ``spec`` that are not valid yet.

    ``should_stop`` is called twice a second; when true, workers are ended immediately. Objects are
    written whole, so that only unfinished work is lost. ``seconds_before`` this call count for the
    budget.
    """
    started = time.monotonic()
    keeper = BudgetKeeper(spec, seconds_before)
    valid: set[int] = set()
    if not spec.recompute:
        states = check_checkpoints(lake, spec.checkpoints)
        valid = {state.planned.number for state in states if state.is_valid}
    reporter.landed.update(valid)
    dealer = Dealer([c for c in spec.checkpoints if c.number not in valid], reporter, keeper)
    if dealer.has_work:
        models = [(read_ready_model(lake, r.model_version), r) for r in spec.recipes.values()]
        for model, recipe in models:
            model.require_fit(recipe.settings)
        parameters = max(model.parameters for model, _ in models)
        devices = worker_devices(spec.engine, parameters)
        dealer.pool_products = devices[0].pool_products(spec.engine)
        if problem := unused_gpus(spec.engine):
            reporter.report(problem, logging.WARNING)
        skipped = f", {len(valid)} of them already valid" if valid else ""
        reporter.report(
            f"job {spec.name}: {len(spec.checkpoints)} checkpoints{skipped}, "
            f"{spec.products} products, workers: {', '.join(map(str, devices))}"
        )
        crew = _Crew(dealer, [WorkerOptions(spec, device, instance_type) for device in devices])
        crew.work(should_stop)
    budget_reached = keeper.sentence(len(dealer.landed), len(dealer.unfinished))
    if budget_reached:
        reporter.report(budget_reached)
    return JobResult(
        landed=tuple(sorted(dealer.landed)),
        already_valid=tuple(sorted(valid | dealer.valid)),
        failed=dealer.failed,
        stopped=bool(dealer.unfinished) and should_stop(),
        seconds=time.monotonic() - started,
        budget_reached=budget_reached,
    )


def summarize_grouped(
    lake: Lake,
    grouped: pl.LazyFrame,
    grouped_version: str,
    settings: Settings,
    run: Callable[[JobSpec], JobResult],
) -> JobResult:
    """Make the model ready, plan, summarize, and merge if everything landed, in this process.

    ``grouped`` has one row per product with product_id, all_reviews and review_count; ``run``
    computes a job spec.

    Raises:
        ReviewsumError: The model cannot be used, or no product can be planned.
    """
    model, _ = ready_model(lake, settings)
    if settings.engine != "transformers":
        ensure_converted(lake, model)
    plan = make_plan(lake, grouped, grouped_version, model.version, settings).plan
    result = run(job_spec(plan, plan.checkpoints, lake=lake.uri, engine=settings.engine_settings()))
    if result.exit_code == 0:
        merge_checkpoints(lake, plan, settings.merge_settings())
    return result


@dataclass
class _Member:
    """One worker process as its parent sees it."""

    options: WorkerOptions
    process: SpawnProcess
    connection: Connection
    leases: list[set[int]] = field(default_factory=list)  # not empty, oldest first
    generating: frozenset[int] = frozenset()
    idle: bool = False
    broken: Broken | None = None

    @property
    def held(self) -> set[int]:
        """Numbers of the checkpoints without a report."""
        return {number for lease in self.leases for number in lease}

    @property
    def suspects(self) -> set[int]:
        """Numbers of the checkpoints that may cause its death; others are read or written."""
        return (self.held & self.generating) or set().union(*self.leases[:1])


class _Crew:
    """The workers of a job."""

    def __init__(self, dealer: Dealer, options: list[WorkerOptions]) -> None:
        self._dealer = dealer
        self._options = options
        self._members: list[_Member] = []
        # So many deaths without a checkpoint landed in between mean that no worker can work.
        self._deaths_allowed = 4 + 2 * len(options)
        self._barren_deaths = 0

    def work(self, should_stop: Callable[[], bool]) -> None:
        """Deal until no work is left or a stop is requested; no worker outlives this call."""
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
            case Generating(numbers):
                member.generating = numbers
            case Generated(number, chunks, share, memory):
                self._dealer.reporter.generated(number, chunks, share, memory)
            case Finished(number, outcome, message, seconds):
                if outcome == "landed":
                    self._barren_deaths = 0
                member.leases = [rest for lease in member.leases if (rest := lease - {number})]
                self._dealer.finish(number, outcome, message, seconds)
            case Broken():
                member.broken = report

    def _deal(self) -> None:
        # Members without a lease first: the others only read ahead.
        for member in sorted(self._members, key=lambda member: len(member.leases)):
            if member.idle and self._dealer.has_work:
                lease = self._dealer.next_lease(member.held, len(self._members))
                if not lease:
                    return
                numbers = {planned.number for planned in lease}
                try:
                    member.connection.send(lease)
                except OSError:  # it has just died, which the next look at its connection finds
                    self._dealer.take_back(numbers, (), "")
                    continue
                member.idle = False
                member.leases.append(numbers)

    def _bury(self, member: _Member) -> None:
        """Take back a dead worker's checkpoints, and replace it if there is work."""
        member.process.join()
        self._members.remove(member)
        broken = member.broken or Broken(death(member.process.exitcode))
        reason = broken.reason
        message = f"worker {member.process.pid} ended: {reason}"
        self._dealer.reporter.report(message, logging.ERROR)
        self._dealer.take_back(member.held, member.suspects, reason)
        self._barren_deaths += 1
        if broken.is_final:
            self._dealer.give_up(reason)
        elif self._barren_deaths >= self._deaths_allowed:
            self._dealer.give_up(f"no worker can work: {reason}")
        elif self._dealer.has_work:
            self._members.append(self._hire(member.options))

    def _dismiss(self) -> None:
        for member in self._members:
            try:
                member.connection.send(())
            except OSError:
                continue  # it died after its last report; none of its work is missing
        for member in self._members:
            member.process.join(_POLL_SECONDS)
