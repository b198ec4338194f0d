"""A run over checkpoints: attaches to live jobs or starts them, and logs what lands."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import dagster as dg

from reviewsum_assets.assets import display
from reviewsum_assets.assets.job_messages import JobMessages, pipes_context
from reviewsum_assets.assets.partitions import (
    CHUNK_SUMMARIES,
    UNLISTED,
    earlier_attempts,
    materialization,
    pending_elsewhere,
)
from reviewsum_assets.assets.pipeline import Pipeline, StageProgress
from reviewsum_assets.assets.quality_checks import log_canaries
from reviewsum_assets.checkpoints.manifest import require_summaries
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import (
    CheckpointState,
    check_checkpoint,
    check_checkpoints,
    checkpoint_digests,
)
from reviewsum_assets.compute import JobEnd, Launch, RunningJob
from reviewsum_assets.compute.base import Tolerance
from reviewsum_assets.compute.estimate import order_job
from reviewsum_assets.compute.failures import FailureKind, JobFailure, LaunchError
from reviewsum_assets.compute.launches import note_waiting, waiting_runs
from reviewsum_assets.errors import LakeError, ReviewsumError, first_names
from reviewsum_assets.evaluation.canaries import CanaryComparison
from reviewsum_assets.job.progress import read_progress
from reviewsum_assets.storage.lake import Lake

_LOG_EVERY_SECONDS = 10.0
# Time without access to the lake after which a run gives up; its job continues.
_UNREACHABLE_SECONDS = 900.0
_NO_FAILURE = JobFailure(FailureKind.JOB, "it ended without all checkpoints")


def summarize_pending(context: dg.AssetExecutionContext, pipeline: Pipeline, plan: Plan) -> None:
    """Compute the checkpoints of a plan that are not valid, and log each one as it lands.

    Raises:
        dg.Failure: some did not land; names them, the reason and the remedy.
        CheckpointError: they did, and no product has a summary.
    """
    pending = pipeline.state.pending(plan)
    if not pending:
        context.log.info(f"all {len(plan.checkpoints):,} checkpoints are valid")
        return
    run = SummarizeRun(context, pipeline, plan, pending, recompute=False)
    run.compute_missing()
    run.require_all()


@dataclass
class SummarizeRun:
    """One run over checkpoints, of ``chunk_summaries`` or of the job ``refresh``."""

    context: dg.AssetExecutionContext
    pipeline: Pipeline
    plan: Plan
    requested: list[PlannedCheckpoint]
    recompute: bool
    _pending: dict[int, PlannedCheckpoint] = field(init=False)
    # Of other runs of the same backfill: computed too, but not required.
    _elsewhere: dict[int, PlannedCheckpoint] = field(default_factory=dict)
    _reasons: dict[int, str] = field(default_factory=dict)
    _digests: dict[int, str] = field(default_factory=dict)  # of the files that were read
    _read_beside_a_job: bool = False  # a job was live while the pending checkpoints were read
    _failure: JobFailure | None = None
    _job: RunningJob | None = None
    _usd: float = 0.0
    _logged: float = 0.0
    _canaries: CanaryComparison = field(init=False)

    def __post_init__(self) -> None:
        self._canaries = CanaryComparison(self._lake)
        self._pending = {planned.number: planned for planned in self.requested}

    def log_reused(self) -> None:
        """Log complete checkpoints before a job starts, so that its failure does not affect them.

        Those are the valid ones; with ``recompute``, the results of earlier attempts of this run.
        """
        earlier: frozenset[str] = frozenset()
        if self.recompute:
            earlier = earlier_attempts(self.context.instance, self.context.run)
            if not earlier:
                return
        try:
            self._read_beside_a_job = self._live_job() is not None
        except LaunchError:
            self._read_beside_a_job = True  # not known

        @cache
        def is_of_earlier_attempt(job: str) -> bool:
            return not earlier.isdisjoint(waiting_runs(self._lake, job))

        digests = checkpoint_digests(self._lake)
        for state in check_checkpoints(self._lake, list(self._pending.values())):
            if state.manifest is not None and (
                not self.recompute or is_of_earlier_attempt(state.manifest.producer.job_name)
            ):
                self._materialized(state, digests.get(state.planned.number, UNLISTED), reused=True)

    def compute_missing(self) -> None:
        """Attach to a live job that computes pending checkpoints, then start jobs for the rest.

        Only a temporary failure is tried again, after a pause that doubles each time.
        """
        settings = self.pipeline.settings
        attempt = 1
        while self._pending:
            failure = self._attempt()
            if failure is None:
                continue
            if not failure.is_passing or attempt == settings.launch_attempts:
                self._failure = failure
                return
            pause = settings.retry_seconds * 2 ** (attempt - 1)
            self.context.log.warning(
                f"attempt {attempt} of {settings.launch_attempts}: {failure}. "
                f"Trying again in {pause:.0f} s"
            )
            time.sleep(pause)
            attempt += 1

    def log_canaries(self) -> None:
        """Log whether the workers of the complete checkpoints agree on the canary texts."""
        log_canaries(self.context, self.pipeline, self._canaries)

    def require_all(self) -> None:
        """Fail, with names and reasons, if requested checkpoints did not land, or no summary."""
        if not self._pending:
            judged = self.pipeline.state.checkpoints(self.plan)
            ours = [one for one in judged if one.planned.recipe == self.plan.recipe]
            manifests = [one.manifest for one in ours if one.manifest is not None]
            require_summaries(
                sum(one.totals.chunks for one in ours),
                (product for manifest in manifests for product in manifest.quarantined),
            )
            return
        failure = self._failure or _NO_FAILURE
        # Only a re-execution knows which checkpoints remain to be computed again.
        go_on = (
            "re-execute this run" if self.recompute else "launch refresh again (`reviewsum run`)"
        )
        is_left = failure.kind is FailureKind.BUDGET
        default = "still pending" if is_left else "it did not land"
        why = {
            planned.partition_key: self._reasons.get(number, default)
            for number, planned in self._pending.items()
        }
        raise dg.Failure(
            description=(
                f"{len(why)} of {len(self.requested)} requested checkpoints did not "
                f"land ({failure.kind.value}: {failure.reason}). "
                f"{first_names([f'{key}: {reason}' for key, reason in why.items()], '; ')}. "
                f"What to do: {failure.advice}. Checkpoints "
                f"that landed are kept: {go_on} to compute the rest.{_links(self._job)}"
            ),
            metadata={
                "failure": failure.kind.value,
                "reason": failure.reason,
                "what_to_do": failure.advice,
                "landed": len(self.requested) - len(why),
                "missing": len(why),
                "missing_checkpoints": display.table(["checkpoint", "reason"], why.items()),
                "usd": self._usd,
                **_job_metadata(self._job),
            },
            allow_retries=False,
        )

    @property
    def _lake(self) -> Lake:
        return self.pipeline.lake

    def _attempt(self) -> JobFailure | None:
        """Follow a live job, or start one, to its end; None if the run is to continue."""
        try:
            live = self._live_job()
            if live is None and self._read_beside_a_job:
                self.log_reused()  # it may have landed checkpoints that were read as missing
                return None
            if live is None:
                return self._start_and_follow()
        except LaunchError as error:
            return error.failure
        self.context.log.info(f"attaching to live job {live.spec.name}")
        self._elsewhere = {}
        note_waiting(self._lake, live.spec.name, self.context.run.run_id)
        return self._failure_of(live, self._follow(live))

    def _live_job(self) -> RunningJob | None:
        """A running job that computes any pending checkpoint."""
        for job in self.pipeline.compute.live_jobs():
            if not self._pending.keys().isdisjoint(c.number for c in job.spec.checkpoints):
                return job
        return None

    def _start_and_follow(self) -> JobFailure | None:
        """Start one job for the pending checkpoints of this run and its backfill, and follow it."""
        compute, run = self.pipeline.compute, self.context.run
        for notice in compute.notices:
            self.context.log.warning(notice)
        order = order_job(
            lake=self._lake,
            plan=self.plan,
            pending=self._for_one_job(),
            settings=self.pipeline.settings,
            compute=compute,
            recompute=self.recompute,
        )
        launch = Launch(
            run_id=run.run_id,
            pipes_context=pipes_context(self.context),
            tags={
                "dagster/run_id": run.run_id,
                "dagster/job": run.job_name,
                "dagster/asset": CHUNK_SUMMARIES.to_user_string(),
                "reviewsum/plan": self.plan.plan_id,
            },
            time_limit_seconds=order.time_limit_seconds,
        )
        job = compute.start(order.spec, launch)
        if job.attached:
            self._elsewhere = {}  # logged by the run that started the job
        end = self._follow(job)
        if self._elsewhere:
            self.context.log.warning(
                f"{len(self._elsewhere)} checkpoints of other runs of this backfill did not land: "
                "those runs compute them"
            )
        return self._failure_of(job, end)

    def _failure_of(self, job: RunningJob, end: JobEnd) -> JobFailure | None:
        """Reason to give up after a job; None to continue with the pending checkpoints."""
        asked = {planned.number for planned in job.spec.checkpoints}
        # A job for other checkpoints, or one that another process stopped, is no reason.
        if job.was_stopping or asked.isdisjoint(self._pending):
            return None
        return end.failure or (None if job.attached else _NO_FAILURE)

    def _for_one_job(self) -> tuple[PlannedCheckpoint, ...]:
        """Pending checkpoints of this run and, unless it recomputes, of its backfill.

        Sorted, so that runs that start at the same time order the same job.
        """
        context = self.context
        if not self.recompute:
            self._elsewhere = pending_elsewhere(
                context.instance, self._lake, self.plan, context.run, self.requested
            )
        if self._elsewhere:
            context.log.info(
                f"the job includes {len(self._elsewhere)} checkpoints of this backfill's other runs"
            )
        return tuple(planned for _, planned in sorted({**self._pending, **self._elsewhere}.items()))

    def _follow(self, job: RunningJob) -> JobEnd:
        """Log each checkpoint as it lands until the job ends; stop the job with this run."""
        self._job = job
        self.context.log.info(
            f"job {job.spec.name} is running; "
            + ", ".join(f"{what}: {where}" for what, where in job.links.items())
        )
        messages = JobMessages(self.context, self._lake, job.spec.name)
        tolerance = Tolerance(_UNREACHABLE_SECONDS)
        try:
            while (end := job.poll()) is None:
                with tolerance.of(LakeError):
                    messages.pass_on()
                    self._log_landed(job)
                    self._report(job)
                time.sleep(self.pipeline.compute.poll_seconds)
        except (KeyboardInterrupt, SystemExit, dg.DagsterExecutionInterruptedError):
            # No run would wait for the job. After any other error it continues: the next run
            # attaches to it.
            self._stop(job)
            raise
        is_complete = False
        while not is_complete:
            with tolerance.of(LakeError):
                messages.pass_on()
                self._digests.clear()
                self._log_landed(job)
                is_complete = True
            if not is_complete:
                time.sleep(self.pipeline.compute.poll_seconds)
        self._usd += end.usd
        if end.result is not None:
            self._reasons.update(end.result.failed)
        return end

    def _stop(self, job: RunningJob) -> None:
        """Stop a job; a failure of that is logged, so that it does not hide the interruption."""
        self.context.log.warning(f"stopping job {job.spec.name}")
        try:
            job.stop()
            self._digests.clear()
            self._log_landed(job)
            self.context.log.warning(
                f"stopped: {len(self.requested) - len(self._pending)} of {len(self.requested)} "
                "requested checkpoints are complete and kept; materialize the missing partitions "
                "to compute the rest"
            )
        except ReviewsumError as error:
            self.context.log.error(f"{error}.{_links(job)}")  # noqa: TRY400 - no traceback for users

    def _log_landed(self, job: RunningJob) -> None:
        digests = checkpoint_digests(self._lake)
        for number, planned in [*self._pending.items(), *self._elsewhere.items()]:
            found = digests.get(number)
            if found is not None and self._digests.get(number) != found:
                self._digests[number] = found
                state = check_checkpoint(self._lake, planned)
                if state.manifest is not None and (
                    not self.recompute or state.manifest.producer.job_name == job.spec.name
                ):
                    self._materialized(state, found, reused=False)

    def _materialized(self, state: CheckpointState, digest: str, *, reused: bool) -> None:
        self._pending.pop(state.planned.number, None)
        self._elsewhere.pop(state.planned.number, None)
        assert state.manifest is not None
        self._canaries.add(state.planned.recipe, state.manifest)
        self.context.log_event(materialization(self.pipeline, state, digest, reused=reused))

    def _report(self, job: RunningJob) -> None:
        """Pass on the progress and the cost of a job."""
        progress = read_progress(self._lake, job.spec.name)
        if progress is None:
            return
        self.pipeline.report(
            StageProgress(
                "chunk_summaries",
                progress.products_done,
                progress.products,
                "products",
                f"{progress.checkpoints_done}/{progress.checkpoints} checkpoints",
            )
        )
        if time.monotonic() - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            usd = job.usd_so_far()
            self.context.log.info(f"{progress}{f', {usd:.2f} USD so far' if usd else ''}")


def _links(job: RunningJob | None) -> str:
    """Links to a job and its log, for the end of a message."""
    return "".join(f" {name}: {link}" for name, link in (job.links if job else {}).items())


def _job_metadata(job: RunningJob | None) -> dict[str, Any]:
    if job is None:
        return {}
    return {
        "job": job.spec.name,
        **display.link_metadata(job.links),
        # A fence within the log would end the block, and the rest would be shown as Markdown.
        "job_log_tail": dg.MetadataValue.md(f"```\n{job.log_tail().replace('```', '` ` `')}\n```"),
    }
