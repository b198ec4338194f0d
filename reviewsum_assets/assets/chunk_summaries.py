"""``chunk_summaries``: one partition a checkpoint; materializing runs a Processing job.

A partition is materialized the moment its manifest lands, so that partition state is checkpoint
and resume state at once. Valid checkpoints are logged first and never computed again.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from reviewsum_assets import lake as places
from reviewsum_assets.assets import markdown
from reviewsum_assets.assets.checkpoint_plan import checkpoint_partitions, checkpoint_plan
from reviewsum_assets.assets.job_messages import job_messages
from reviewsum_assets.assets.pipeline import Pipeline, StageProgress
from reviewsum_assets.assets.summarizer_model import summarizer_model
from reviewsum_assets.checkpoints.plan import (
    Plan,
    PlannedCheckpoint,
    checkpoint_number,
    require_plan,
)
from reviewsum_assets.checkpoints.validity import (
    CheckpointState,
    check_checkpoint,
    check_checkpoints,
)
from reviewsum_assets.compute import JobEnd, RunningJob
from reviewsum_assets.compute.budget import job_budget
from reviewsum_assets.compute.estimate import seconds_per_chunk
from reviewsum_assets.job.progress import read_progress
from reviewsum_assets.job.spec import job_spec
from reviewsum_assets.lake import Lake

CHUNK_SUMMARIES = dg.AssetKey("chunk_summaries")

_PREVIEW_PRODUCTS = 5
_PREVIEW_CHARS = 300
_NAMES_IN_A_MESSAGE = 10
_LOG_EVERY_SECONDS = 10.0


class SummarizeConfig(dg.Config):
    """Options of one run."""

    recompute: bool = False


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            CHUNK_SUMMARIES,
            deps=[checkpoint_plan, summarizer_model],
            skippable=True,
            group_name="summaries",
            kinds={"pytorch", "csv"},
            owners=["team:reviewsum"],
            tags={"domain": "summaries"},
            description=(
                "Summaries of the products of one checkpoint, `checkpoint_files/"
                "checkpoint_file_N.csv`. All partitions of a run share one Processing job. Each "
                "turns green when its checkpoint is complete; materializing a complete one again "
                "costs nothing, unless the run's config says `recompute`."
            ),
        )
    ],
    name="chunk_summaries",
    partitions_def=checkpoint_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="gpu_processing",
)
def chunk_summaries(
    context: dg.AssetExecutionContext,
    config: SummarizeConfig,
    pipeline: dg.ResourceParam[Pipeline],
) -> Iterator[dg.MaterializeResult[None]]:
    """Run one job for all requested checkpoints that are not valid yet."""
    plan = require_plan(pipeline.lake)
    requested = [plan.checkpoint(checkpoint_number(key)) for key in context.partition_keys]
    run = _SummarizeRun(context, pipeline, plan, requested, recompute=config.recompute)
    run.log_reused()
    run.compute_missing()
    run.require_all()
    # Every materialization was logged as its checkpoint landed.
    yield from ()


@dataclass
class _SummarizeRun:
    """The course of one run over some checkpoints."""

    context: dg.AssetExecutionContext
    pipeline: Pipeline
    plan: Plan
    requested: list[PlannedCheckpoint]
    recompute: bool
    _pending: dict[int, PlannedCheckpoint] = field(init=False)
    _ends: list[JobEnd] = field(default_factory=list)
    _job: RunningJob | None = None
    _told: float = 0.0

    def __post_init__(self) -> None:
        self._pending = {planned.number: planned for planned in self.requested}

    def log_reused(self) -> None:
        """Log what is valid before a job starts: a later failure cannot paint it failed."""
        if self.recompute:
            return
        for state in check_checkpoints(self._lake, self.requested):
            if state.is_valid:
                self._materialized(state, reused=True)

    def compute_missing(self) -> None:
        """Attach to a live job that computes any of it, then start one for what remains."""
        while self._pending:
            live = [
                job
                for job in self.pipeline.compute.live_jobs()
                if not self._pending.keys().isdisjoint(c.number for c in job.spec.checkpoints)
            ]
            if live:
                self.context.log.info(f"attaching to live job {live[0].spec.name}")
                self._follow(live[0])
            elif self._start_and_follow():
                return
            if self._is_budget_reached:
                return  # another job would spend as much again

    def require_all(self) -> None:
        """Fail, with names and reasons, if a requested checkpoint did not land."""
        if not self._pending:
            return
        reasons = dict.fromkeys(self._pending, "it did not land")
        for end in self._ends:
            if end.result is not None:
                if end.result.budget_reached:
                    reasons = dict.fromkeys(self._pending, "still pending")
                reasons.update(
                    (n, why) for n, why in end.result.failed.items() if n in self._pending
                )
        named = [
            f"{planned.partition_key}: {reasons[number]}"
            for number, planned in list(self._pending.items())[:_NAMES_IN_A_MESSAGE]
        ]
        more = len(self._pending) - len(named)
        ended = "; ".join(dict.fromkeys(end.reason for end in self._ends if end.reason))
        raise dg.Failure(
            description=(
                f"{len(self._pending)} of {len(self.requested)} requested checkpoints did not "
                f"land ({ended or 'the job ended'}). {'; '.join(named)}"
                f"{f' and {more} more' if more > 0 else ''}. What landed is kept: re-execute this "
                "run, or materialize the missing partitions, to compute the rest."
            ),
            metadata={
                "missing_checkpoints": markdown.table(
                    ["checkpoint", "reason"],
                    ((p.partition_key, reasons[n]) for n, p in self._pending.items()),
                ),
                "landed": len(self.requested) - len(self._pending),
                **self._job_metadata(),
            },
            allow_retries=False,
        )

    @property
    def _lake(self) -> Lake:
        return self.pipeline.lake

    @property
    def _is_budget_reached(self) -> bool:
        """Whether a job ended for want of budget."""
        return any(end.result is not None and end.result.budget_reached for end in self._ends)

    def _start_and_follow(self) -> bool:
        """Start a job for what is pending; False if another process was first to start it."""
        pending = tuple(self._pending.values())
        settings, capacity = self.pipeline.settings, self.pipeline.compute.capacity
        spec = job_spec(
            self.plan,
            pending,
            lake=self._lake.uri,
            engine=settings.engine_settings(),
            recompute=self.recompute,
            budget=job_budget(settings, capacity),
            seconds_per_chunk=seconds_per_chunk(
                self._lake, self.plan, pending[0], settings, capacity
            ),
        )
        with job_messages(self.context) as environment:
            job = self.pipeline.compute.start(spec, environment)
            self._follow(job)
        return not job.attached

    def _follow(self, job: RunningJob) -> None:
        """Log each checkpoint as it lands until the job ends; stop it if this run is stopped."""
        self._job = job
        self.context.log.info(f"job {job.spec.name} is running; its log: {job.log_location}")
        try:
            while (end := job.poll()) is None:
                self._log_landed(job)
                self._tell(job)
                time.sleep(self.pipeline.compute.poll_seconds)
        except BaseException:
            # Cancelled, or interrupted: nobody would wait for the job any more.
            self.context.log.warning(f"stopping job {job.spec.name}")
            job.stop()
            self._log_landed(job)
            raise
        self._log_landed(job)
        self._ends.append(end)

    def _log_landed(self, job: RunningJob) -> None:
        present = {item.key for item in self._lake.list(places.CHECKPOINT_MANIFESTS)}
        for number, planned in list(self._pending.items()):
            if places.checkpoint_manifest(number) in present:
                state = check_checkpoint(self._lake, planned)
                if state.manifest is not None and (
                    not self.recompute or state.manifest.producer.job_name == job.spec.name
                ):
                    self._materialized(state, reused=False)

    def _materialized(self, state: CheckpointState, *, reused: bool) -> None:
        self._pending.pop(state.planned.number, None)
        self.context.log_event(
            dg.AssetMaterialization(
                asset_key=CHUNK_SUMMARIES,
                partition=state.planned.partition_key,
                metadata=_metadata(self._lake, state, reused=reused),
                tags={"dagster/data_version": state.planned.data_version},
            )
        )

    def _tell(self, job: RunningJob) -> None:
        """Pass on how far the job is; one that we did not start sends no Pipes messages."""
        progress = read_progress(self._lake, job.spec.name)
        if progress is None:
            return
        self.pipeline.tell(
            StageProgress(
                "chunk_summaries",
                progress.products_done,
                progress.products,
                "products",
                f"{progress.checkpoints_done}/{progress.checkpoints} checkpoints",
            )
        )
        if job.attached and time.monotonic() - self._told >= _LOG_EVERY_SECONDS:
            self._told = time.monotonic()
            self.context.log.info(str(progress))

    def _job_metadata(self) -> dict[str, Any]:
        if self._job is None:
            return {}
        return {
            "job": self._job.spec.name,
            "job_log": dg.MetadataValue.path(self._job.log_location),
            "job_log_tail": dg.MetadataValue.md(f"```\n{self._job.log_tail()}\n```"),
        }


def _metadata(lake: Lake, state: CheckpointState, *, reused: bool) -> dict[str, Any]:
    manifest = state.manifest
    assert manifest is not None
    return {
        "dagster/partition_row_count": len(manifest.products),
        "dagster/uri": lake.uri_of(places.checkpoint_csv(state.planned.number)),
        "manifest": dg.MetadataValue.path(
            lake.uri_of(places.checkpoint_manifest(state.planned.number))
        ),
        "products": len(manifest.products),
        "reviews": manifest.reviews,
        "quarantined": len(manifest.quarantined),
        "chunks": manifest.chunks,
        "tokens_in": manifest.tokens_in,
        "tokens_out": manifest.tokens_out,
        "seconds": manifest.seconds,
        "worker_seconds": manifest.worker_seconds,
        **(
            {"predicted_seconds": manifest.predicted_seconds}
            if manifest.predicted_seconds is not None
            else {}
        ),
        "products_per_hour": 3600 * len(manifest.products) / max(manifest.seconds, 1e-9),
        "reused": reused,
        "job": manifest.producer.job_name,
        "engine": f"{manifest.producer.engine}, {manifest.producer.device}, "
        f"{manifest.producer.dtype}",
        "preview": markdown.table(
            ["product_id", "summary", "reviews"],
            (
                (
                    r.product_id,
                    markdown.shortened(r.abstracted_summary, _PREVIEW_CHARS),
                    r.review_count,
                )
                for r in state.rows[:_PREVIEW_PRODUCTS]
            ),
        ),
        **(
            {
                "quarantined_products": markdown.table(
                    ["product_id", "reason"],
                    ((q.product_id, q.reason) for q in manifest.quarantined),
                )
            }
            if manifest.quarantined
            else {}
        ),
    }
