"""Materializes whatever is out of date, in order, on the persistent instance, in this process."""

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
from reviewsum_assets.reviews import grouping
from reviewsum_assets.reviews.dumps import put_sample
from reviewsum_assets.reviews.grouping import GroupedReviews
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places

_NO_TELEMETRY = {"telemetry": {"enabled": False}}


@dataclass(frozen=True)
class RunReport:
    """What a call of ``materialize_pending`` did, and what the lake holds after it."""

    status: LakeStatus
    computed: tuple[int, ...]
    merged: bool
    grouped: GroupedReviews
    demo_model: bool
    warnings: tuple[str, ...]  # of asset checks and engines; none stops a run
    seconds: float

    @property
    def did_nothing(self) -> bool:
        """Whether everything was up to date already."""
        return not self.computed and not self.merged


def materialize_pending(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    *,
    log_level: str,
    say: Callable[[str], None] = lambda _: None,
) -> RunReport:
    """Ingest and plan if the input changed, compute what is not valid, merge if that changed.

    Args:
        instance: where the runs are kept.
        pipeline: what they work on.
        log_level: of Dagster's log on standard error.
        say: told in a sentence what a plan that was there already was not made from.

    Raises:
        ReviewsumError: what could not be done; checkpoints that did not land are named.
    """
    started = time.monotonic()
    runs = _Runs(instance, pipeline, log_level)
    plan = _standing_plan(pipeline, say)
    before = _manifests(pipeline)
    if plan is not None:
        align_partitions(instance, plan)
    status = None if plan is None else pipeline.state.status_of(plan)
    merged = status is None or not _is_done(pipeline, runs, status)
    if merged:
        # What a job lacks is said now, not after all dumps were read.
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
    grouped = grouping.current_grouped_reviews(pipeline.lake)
    is_reported = plan is not None and status.plan.input_version == plan.input_version
    if not is_reported or grouped is None or grouped.version != status.plan.grouped_version:
        raise PlanError(
            "another run has grouped or planned other dumps, settings or another model on this "
            "lake since this one ended: run it again for a report of these"
        )
    return RunReport(
        status=status,
        computed=computed,
        merged=merged,
        grouped=grouped,
        demo_model=_uses_demo_model(pipeline, status.plan),
        warnings=(
            *(f"{check}: {said}" for check, said in runs.warnings.items()),
            *_failed_engines(status, computed),
        ),
        seconds=time.monotonic() - started,
    )


def reconcile_lake(instance: dg.DagsterInstance, pipeline: Pipeline) -> Reconciliation:
    """Read every checkpoint and make Dagster say what the lake says.

    Raises:
        PlanError: there is no plan yet.
    """
    plan = require_plan(pipeline.lake)
    return reconcile(instance, pipeline, plan, RecordedFailures(defs.get_repository_def()))


@contextmanager
def foreseen(
    settings: Settings,
    *,
    log_level: str,
    say: Callable[[str], None],
    on_progress: Callable[[StageProgress], None] | None = None,
) -> Iterator[tuple[Pipeline, LakeStatus]]:
    """What a run would plan, for as long as the context lasts; what it would compute is pending.

    Dumps are read and planned as in a run, on an overlay of the lake and an instance of its own:
    neither lake nor Dagster is changed. A plan that takes too much away is shown too.

    Args:
        settings: of the run.
        log_level: of Dagster's log on standard error.
        say: told in a sentence what is new, and what is gone.
        on_progress: told how far reading is.

    Raises:
        ReviewsumError: what could not be done; on leaving, that the run would refuse this plan.
    """
    with tempfile.TemporaryDirectory(prefix="reviewsum-dry-run-") as scratch:
        shown = settings.model_copy(update={"max_vanished_share": 1.0})
        pipeline = Pipeline(shown, on_progress, say, scratch=Path(scratch))
        if put_sample(pipeline.lake, shown):
            say(f"{pipeline.lake.uri} is empty: using the sample reviews")
        plan = _standing_plan(pipeline, say)
        vanished = None
        if plan is None:
            _ = pipeline.compute  # what it lacks is said now, not after all dumps were read
            before = current_plan(pipeline.lake)
            with dg.DagsterInstance.ephemeral(settings=_NO_TELEMETRY) as instance:
                runs = _Runs(instance, pipeline, log_level)
                plan = runs.execute("ingest")
            for check, said in runs.warnings.items():
                say(f"warning: {check}: {said}")
            if before is None or plan.plan_id != before.plan_id:
                vanished = plan.vanished
        yield pipeline, _status(pipeline)
        refuse_vanished(vanished, settings.max_vanished_share)


def first_request(pipeline: Pipeline, status: LakeStatus) -> dict[str, Any]:
    """What a run would ask of SageMaker.

    Returns:
        The CreateProcessingJob request, field by field; empty if nothing is to be computed.

    Raises:
        SettingsError: the request breaks a limit of the service.
    """
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
    launch = Launch(time_limit_seconds=order.time_limit_seconds)
    from reviewsum_assets.compute.sagemaker import SageMakerCompute

    assert isinstance(compute, SageMakerCompute)
    return compute.request(order.spec, launch)


@dataclass(frozen=True)
class _Runs:
    """Executes jobs of the definitions in this process."""

    instance: dg.DagsterInstance
    pipeline: Pipeline
    log_level: str
    warnings: dict[str, str] = field(default_factory=dict)  # by check; of each the last

    def execute(self, job: str) -> Plan:
        """Execute one job that plans, and note what its asset checks warn of.

        Returns:
            The current plan, made from what the job read.

        Raises:
            CheckpointError: checkpoints did not land.
            CheckError: a blocking asset check failed.
            RunInterrupted: by Ctrl-C or SIGTERM.
            ReviewsumError: what an asset raised.
        """
        run_id = str(uuid.uuid4())
        hold_run_lock(self.instance, run_id)
        tells = self.pipeline.settings.sends_alerts
        try:
            defs.resolve_job_def(job).execute_in_process(
                run_id=run_id,
                instance=self.instance,
                resources={"pipeline": self.pipeline},
                tags=run_tags(tells_of_failure=tells),
                run_config={
                    "loggers": {"console": {"config": {"log_level": self.log_level}}},
                },
            )
        except dg.Failure as failure:
            if isinstance(failure.__context__, ReviewsumError):
                raise failure.__context__ from None
            raise CheckpointError(failure.description) from failure
        except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
            raise RunInterrupted("interrupted; run it again to go on where it stopped") from error
        except dg.DagsterError as error:
            blocking = failed_checks(self.instance, run_id, is_blocking=True)
            if not blocking:
                raise
            raise CheckError(
                "; ".join(f"{check}: {said}" for check, said in blocking.items())
            ) from error
        self.warnings.update(failed_checks(self.instance, run_id, is_blocking=False))
        run = self.instance.get_run_by_id(run_id)
        assert run is not None  # it was executed just now
        return plan_of_run(self.instance, run, self.pipeline.lake)

    def failed_last(self, *jobs: str) -> bool:
        """Whether the last run of any of these jobs failed, so that its table cannot be trusted."""
        records = [
            record
            for job in jobs
            for record in self.instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
        ]
        newest = max(records, key=lambda record: record.create_timestamp, default=None)
        return newest is not None and newest.dagster_run.status is dg.DagsterRunStatus.FAILURE


def _standing_plan(pipeline: Pipeline, say: Callable[[str], None]) -> Plan | None:
    """The current plan if it is of what there is now; else None, and why is said."""
    lake = pipeline.lake
    plan = current_plan(lake)
    if plan is None:
        return None
    remove_damaged(lake, plan)
    lost = grouping.damaged_tables(lake, read=False) or lost_checkpoints(lake, plan)
    differences = plan_differences(lake, plan, pipeline.settings)
    if differences:
        say(f"planning again: {'; '.join(differences)}")
    return None if differences or lost or not _is_converted(pipeline, plan) else plan


def _is_done(pipeline: Pipeline, runs: _Runs, status: LakeStatus) -> bool:
    """Whether every checkpoint of the plan is valid and merged."""
    return (
        not status.incomplete
        and status.is_merged
        and not merged_file_problems(pipeline.lake)
        and not _lacks_spreadsheet(pipeline, status)
        and not runs.failed_last(REFRESH, "merge")
    )


def _manifests(pipeline: Pipeline) -> dict[str, object]:
    """Tells the manifests that lie on the lake now from those of another time, by key."""
    listed = pipeline.lake.list(places.CHECKPOINT_MANIFESTS)
    return {item.key: (item.e_tag, item.last_modified) for item in listed}


def _is_converted(pipeline: Pipeline, plan: Plan) -> bool:
    """Whether the plan's model is converted, if the engine may want that."""
    model = plan.recipes[plan.recipe].model_version
    return pipeline.settings.engine == "transformers" or is_converted(pipeline.lake, model)


def _failed_engines(status: LakeStatus, computed: Collection[int]) -> Iterator[str]:
    """Why checkpoints were computed by a slower engine than the chosen one, each reason once."""
    reasons = Counter(
        manifest.producer.engine_reason
        for state, manifest in status.manifests
        if manifest.producer.failed_engine and state.planned.number in computed
    )
    for reason, count in reasons.items():
        yield f"the slower engine computed {count} checkpoints: {reason}"


def _lacks_spreadsheet(pipeline: Pipeline, status: LakeStatus) -> bool:
    has_one = status.merged is not None and bool(status.merged.spreadsheet_sha256)
    return pipeline.settings.spreadsheet_csv and not has_one


def _uses_demo_model(pipeline: Pipeline, plan: Plan) -> bool:
    version = plan.recipes[plan.recipe].model_version
    return directory.read_ready_model(pipeline.lake, version).is_demo


def _status(pipeline: Pipeline) -> LakeStatus:
    status = pipeline.state.status()
    assert status is not None  # there is a plan by now
    return status
