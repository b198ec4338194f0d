"""Runs of the command line: the jobs of the definitions, executed in this process."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from reviewsum_assets.assets.checkpoint_plan import plan_of_run
from reviewsum_assets.assets.checks import failed_checks
from reviewsum_assets.assets.dagster_home import hold_run_lock, run_tags
from reviewsum_assets.assets.partitions import REFRESH, align_partitions
from reviewsum_assets.assets.pipeline import Pipeline, StageProgress
from reviewsum_assets.assets.reconciliation import Reconciliation, RecordedFailures, reconcile
from reviewsum_assets.checkpoints.plan import Plan, current_plan, require_plan
from reviewsum_assets.checkpoints.planning import refuse_vanished
from reviewsum_assets.checkpoints.validity import lost_checkpoints
from reviewsum_assets.cli.output import RunResult
from reviewsum_assets.compute import Launch
from reviewsum_assets.compute.estimate import order_job
from reviewsum_assets.definitions import defs
from reviewsum_assets.errors import (
    CheckError,
    CheckpointError,
    PlanError,
    ReviewsumError,
    RunInterrupted,
)
from reviewsum_assets.job.models import directory
from reviewsum_assets.job.models.conversion import is_converted
from reviewsum_assets.lake_state import (
    LakeStatus,
    merged_file_problems,
    plan_differences,
    remove_damaged,
)
from reviewsum_assets.report.writer import has_current_report
from reviewsum_assets.reviews.dumps import put_sample
from reviewsum_assets.reviews.evidence_table import SUMMARY_EVIDENCE, evidence_source
from reviewsum_assets.reviews.facts import PRODUCT_FACTS
from reviewsum_assets.reviews.grouped import current_grouped_reviews, damaged_tables
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places

_NO_TELEMETRY = {"telemetry": {"enabled": False}}


def materialize_pending(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    *,
    log_level: str,
    say: Callable[[str], None] = lambda _: None,
) -> RunResult:
    """Execute the job refresh, unless everything is up to date.

    Args:
        instance: keeps the runs.
        pipeline: resource of the assets.
        log_level: of Dagster's log on standard error.
        say: receives sentences on changed input and on shortcomings of the compute.

    Raises:
        ReviewsumError: the run failed; checkpoints that did not land are named.
    """
    started = time.monotonic()
    runs = _Runs(instance, pipeline, log_level)
    plan = _standing_plan(pipeline, say)
    before = _manifests(pipeline)
    if plan is not None:
        align_partitions(instance, plan)
    status = None if plan is None else pipeline.state.status_of(plan)
    is_executed = status is None or not _is_done(pipeline, runs, status)
    if is_executed:
        # Before the dumps are read, which takes long.
        for notice in pipeline.compute.notices:
            say(f"warning: {notice}")
        plan = runs.execute(REFRESH)
        status = _status(pipeline)
    assert status is not None
    after = _manifests(pipeline)
    computed = tuple(
        planned.number
        for planned in status.plan.checkpoints
        if before.get(key := places.checkpoint_manifest(planned.number)) != after.get(key)
    )
    grouped = current_grouped_reviews(pipeline.lake)
    is_reported = plan is not None and status.plan.input_version == plan.input_version
    if not is_reported or grouped is None or grouped.version != status.plan.grouped_version:
        raise PlanError(
            "another run has grouped or planned other dumps, settings or another model on this "
            "lake since this one ended: run it again for a report of these"
        )
    model = status.plan.recipes[status.plan.recipe].model_version
    quarantine = grouped.quarantine_key
    lake = pipeline.lake
    return RunResult(
        lake=lake.uri,
        merged_csv=lake.uri_of(places.MERGED_CSV),
        merged_parquet=lake.uri_of(places.MERGED_PARQUET),
        report=lake.uri_of(places.REPORT),
        plan=status.plan.sequence,
        checkpoints=len(status.plan.checkpoints),
        checkpoints_computed=len(computed),
        products=status.summarized,
        products_quarantined=status.quarantined,
        reviews=grouped.counts.reviews_kept,
        rows_quarantined=grouped.counts.quarantined,
        quarantine=None if quarantine is None else lake.uri_of(quarantine),
        chunks=status.chunks,
        demo_model=directory.read_ready_model(lake, model).is_demo,
        warnings=[
            *(f"{check}: {text}" for check, text in runs.warnings.items()),
            *_failed_engines(status, computed),
        ],
        did_nothing=not computed and not is_executed,
        seconds=round(time.monotonic() - started, 2),
    )


def reconcile_lake(instance: dg.DagsterInstance, pipeline: Pipeline) -> Reconciliation:
    """Read every checkpoint and make Dagster's state agree with the lake.

    Raises:
        PlanError: there is no plan yet.
    """
    failures = RecordedFailures(defs.get_repository_def())
    return reconcile(instance, pipeline, require_plan(pipeline.lake), failures)


@contextmanager
def dry_run(
    settings: Settings,
    *,
    log_level: str,
    say: Callable[[str], None],
    on_progress: Callable[[StageProgress], None] | None = None,
) -> Iterator[tuple[Pipeline, LakeStatus]]:
    """The plan of a run without its job; what the run would compute is pending.

    Dumps are read and planned on an overlay of the lake, which lasts as long as the context, and on
    a temporary instance: neither the lake nor Dagster changes. A plan that loses too many products
    is shown too.

    Args:
        settings: of the run.
        log_level: of Dagster's log on standard error.
        say: receives sentences on new and vanished products.
        on_progress: receives the progress of reading.

    Raises:
        ReviewsumError: planning failed; on leaving the context, the run would refuse this plan.
    """
    with tempfile.TemporaryDirectory(prefix="reviewsum-dry-run-") as scratch:
        shown = settings.model_copy(update={"max_vanished_share": 1.0})
        pipeline = Pipeline(shown, on_progress, say, scratch=Path(scratch))
        if put_sample(pipeline.lake, shown):
            say(f"{pipeline.lake.uri} is empty: using the sample reviews")
        plan = _standing_plan(pipeline, say)
        vanished = None
        if plan is None:
            _ = pipeline.compute  # fails before the dumps are read, which takes long
            before = current_plan(pipeline.lake)
            with dg.DagsterInstance.ephemeral(settings=_NO_TELEMETRY) as instance:
                runs = _Runs(instance, pipeline, log_level)
                plan = runs.execute("ingest")
            for check, text in runs.warnings.items():
                say(f"warning: {check}: {text}")
            if before is None or plan.plan_id != before.plan_id:
                vanished = plan.vanished
        yield pipeline, _status(pipeline)
        refuse_vanished(vanished, settings.max_vanished_share)


def first_request(pipeline: Pipeline, status: LakeStatus) -> dict[str, Any]:
    """CreateProcessingJob request of a run; empty if nothing is pending.

    Raises:
        SettingsError: the request breaks a limit of the service.
    """
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

    compute = pipeline.compute
    if not status.incomplete:
        return {}
    order = order_job(
        lake=pipeline.lake,
        plan=status.plan,
        pending=[state.planned for state in status.incomplete],
        settings=pipeline.settings,
        compute=compute,
    )
    assert isinstance(compute, SageMakerCompute)
    return compute.request(order.spec, Launch(time_limit_seconds=order.time_limit_seconds))


@dataclass(frozen=True)
class _Runs:
    """Executes jobs of the definitions in this process."""

    instance: dg.DagsterInstance
    pipeline: Pipeline
    log_level: str
    warnings: dict[str, str] = field(default_factory=dict)  # by check; of each the last

    def execute(self, job: str) -> Plan:
        """Execute a job that plans, note the warnings of its checks, and return its plan.

        Raises:
            CheckpointError: checkpoints did not land.
            CheckError: a blocking asset check failed.
            RunInterrupted: by Ctrl-C or SIGTERM.
            ReviewsumError: an asset raised it.
        """
        run_id = str(uuid.uuid4())
        hold_run_lock(self.instance, run_id)
        try:
            defs.resolve_job_def(job).execute_in_process(
                run_id=run_id,
                instance=self.instance,
                resources={"pipeline": self.pipeline},
                tags=run_tags(self.pipeline.settings),
                run_config={"loggers": {"console": {"config": {"log_level": self.log_level}}}},
            )
        except dg.Failure as failure:
            if isinstance(failure.__context__, ReviewsumError):
                raise failure.__context__ from None
            raise CheckpointError(failure.description) from failure
        except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
            raise RunInterrupted(
                "interrupted; run it again to continue where it stopped"
            ) from error
        except dg.DagsterError as error:
            blocking = failed_checks(self.instance, run_id, is_blocking=True)
            if not blocking:
                raise
            failed = "; ".join(f"{check}: {text}" for check, text in blocking.items())
            raise CheckError(failed) from error
        self.warnings.update(failed_checks(self.instance, run_id, is_blocking=False))
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return plan_of_run(self.instance, run, self.pipeline.lake)

    def failed_last(self, *jobs: str) -> bool:
        """Whether the last run of these jobs failed, so that the table may lack its checks."""
        records = [
            record
            for job in jobs
            for record in self.instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
        ]
        newest = max(records, key=lambda record: record.create_timestamp, default=None)
        return newest is not None and newest.dagster_run.status is dg.DagsterRunStatus.FAILURE


def _standing_plan(pipeline: Pipeline, say: Callable[[str], None]) -> Plan | None:
    """The current plan if it agrees with dumps, settings and model; else None, with a message."""
    lake = pipeline.lake
    plan = current_plan(lake)
    if plan is None:
        return None
    remove_damaged(lake, plan)
    lost = damaged_tables(lake, read=False) or lost_checkpoints(lake, plan)
    differences = plan_differences(lake, plan, pipeline.settings)
    if differences:
        say(f"planning again: {'; '.join(differences)}")
    return None if differences or lost or not _is_converted(pipeline, plan) else plan


def _is_done(pipeline: Pipeline, runs: _Runs, status: LakeStatus) -> bool:
    """Whether every checkpoint of the plan is valid and merged, with facts, evidence and report."""
    is_as_set = (
        status.merged is not None and status.merged.settings == pipeline.settings.merge_settings()
    )
    return (
        not status.incomplete
        and status.is_merged
        and not merged_file_problems(pipeline.lake)
        and _has_evidence(pipeline, status)
        and has_current_report(pipeline.lake, pipeline.settings.report_products)
        and is_as_set
        and not runs.failed_last(REFRESH, "merge")
    )


def _has_evidence(pipeline: Pipeline, status: LakeStatus) -> bool:
    """Whether facts and evidence of the current reviews and summaries are there, undamaged."""
    lake, merged = pipeline.lake, status.merged
    grouped, facts = current_grouped_reviews(lake), PRODUCT_FACTS.undamaged(lake)
    evidence = SUMMARY_EVIDENCE.undamaged(lake)
    if grouped is None or merged is None or facts is None or evidence is None:
        return False
    source = evidence_source(grouped, merged.parquet_sha256)
    return facts.source == grouped.version and evidence.source == source


def _manifests(pipeline: Pipeline) -> dict[str, object]:
    """Tag and time of each manifest, by key; they change whenever it is written."""
    listed = pipeline.lake.list(places.CHECKPOINT_MANIFESTS)
    return {item.key: (item.e_tag, item.last_modified) for item in listed}


def _is_converted(pipeline: Pipeline, plan: Plan) -> bool:
    """Whether the plan's model is converted, if the engine may need that."""
    model = plan.recipes[plan.recipe].model_version
    return pipeline.settings.engine == "transformers" or is_converted(pipeline.lake, model)


def _failed_engines(status: LakeStatus, computed: Collection[int]) -> Iterator[str]:
    """Sentences on checkpoints computed by a slower engine than the chosen one, per reason."""
    reasons = Counter(
        manifest.producer.engine_reason
        for state in status.checkpoints
        if (manifest := state.manifest) is not None
        and manifest.producer.failed_engine
        and state.planned.number in computed
    )
    for reason, count in reasons.items():
        yield f"the slower engine computed {count} checkpoints: {reason}"


def _status(pipeline: Pipeline) -> LakeStatus:
    status = pipeline.state.status()
    assert status is not None
    return status
