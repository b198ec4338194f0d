"""Make Dagster's state agree with the lake, which decides.

A valid checkpoint that Dagster does not show is adopted: materialized without a run. A missing or
invalid one that it shows turns red, by a recorded run that gives the reason; since another instance
may be writing it, only after a second look. Data versions of partitions name the files that were
judged, so that one listing and three queries give the checkpoints that have to be read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

import dagster as dg
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from reviewsum_assets.assets.merged_summaries import record_metadata
from reviewsum_assets.assets.partitions import (
    CHUNK_SUMMARIES,
    DATA_VERSION_TAG,
    MERGED_SUMMARIES,
    PARTITIONS,
    RANGE_END_TAG,
    RANGE_START_TAG,
    REFRESH,
    UNLISTED,
    Alignment,
    align_partitions,
    checkpoint_partitions,
    materialization,
    run_in_progress,
    shown_version,
)
from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.checkpoints.merge import current_merged_table
from reviewsum_assets.checkpoints.plan import Plan, PlannedCheckpoint
from reviewsum_assets.checkpoints.validity import (
    CheckpointState,
    check_checkpoints,
    checkpoint_digests,
)
from reviewsum_assets.errors import first_names
from reviewsum_assets.lake_state import merged_file_problems

# Longer than a writer takes from one object of a checkpoint, or of a small table, to the next.
SECOND_LOOK_SECONDS = 1.0
# A call with a time limit records about as many losses, each of which takes 0.1 s.
_LOSSES_AT_ONCE = 30
# Equal to workspace.yaml.
_LOCATION = InProcessCodeLocationOrigin(
    LoadableTargetOrigin(module_name="reviewsum_assets.definitions"),
    location_name="reviewsum_assets",
)


@dataclass(frozen=True)
class RecordedFailures:
    """Record failed runs of the jobs of a repository: only a run can turn an asset red."""

    repository: dg.RepositoryDefinition
    location: CodeLocationOrigin = _LOCATION

    def record(
        self, instance: dg.DagsterInstance, job: str, why: str, tags: Mapping[str, str]
    ) -> dg.DagsterRun:
        """Record a failed run over the partitions that ``tags`` name."""
        origin = RemoteRepositoryOrigin(self.location, self.repository.name)
        run = instance.create_run_for_job(
            self.repository.get_job(job),
            # Automatic retries must not spend money that no person asked for.
            tags={**tags, "dagster/max_retries": "0"},
            status=dg.DagsterRunStatus.FAILURE,
            remote_job_origin=RemoteJobOrigin(origin, job),
        )
        instance.report_run_failed(run, f"nothing was executed; {why}")
        return run


@dataclass(frozen=True)
class MergedChange:
    """Change of the merged table's state; ``lost`` and ``suspected`` are reasons, or empty."""

    adopted: bool = False
    lost: str = ""
    failed_run: str = ""  # the recorded run that gives the reason
    suspected: str = ""  # the next call decides


@dataclass
class Reconciliation:
    """Changes of Dagster's state."""

    alignment: Alignment
    is_complete: bool  # the files of every planned checkpoint are there
    in_progress: int  # left to runs
    adopted: list[str] = field(default_factory=list)
    lost: list[CheckpointState] = field(default_factory=list)
    suspected: list[CheckpointState] = field(default_factory=list)  # the next call decides
    merged: MergedChange = field(default_factory=MergedChange)
    left: int = 0  # not read for lack of time

    @property
    def did_nothing(self) -> bool:
        """Whether Dagster and the lake agreed already, as far as this call looked."""
        alignment, merged = self.alignment, self.merged
        changed = (alignment.added, alignment.retired, self.adopted, self.lost)
        return not any(changed) and not merged.adopted and not merged.lost

    def sentences(self) -> list[str]:
        """Return one sentence per kind of change, with names and reasons; at least one."""
        lines = {
            "partitions added": self.alignment.added,
            "partitions retired": self.alignment.retired,
            "checkpoints adopted": self.adopted,
            "checkpoints lost": [state.describe() for state in self.lost],
            "checkpoints suspected": [state.describe() for state in self.suspected],
        }
        found = [f"{len(keys)} {kind}: {first_names(keys)}" for kind, keys in lines.items() if keys]
        if self.merged.adopted:
            found.append("merged_summaries adopted")
        if self.merged.lost:
            found.append(f"merged_summaries lost: {self.merged.lost}")
        if self.merged.suspected:
            found.append(f"merged_summaries suspected: {self.merged.suspected}")
        if not found and not self.left:
            found.append("Dagster and the lake agree")
        if self.in_progress:
            found.append(f"{self.in_progress} left to runs in progress")
        if self.left:
            found.append(f"{self.left} still to be read")
        return found


def reconcile(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    plan: Plan,
    failures: RecordedFailures,
    *,
    seconds: float | None = None,
) -> Reconciliation:
    """Adopt, fail, add and retire until Dagster shows what the lake holds.

    Args:
        instance: its state is changed.
        pipeline: its lake decides.
        plan: the current plan.
        failures: records the runs of lost checkpoints and of a lost table.
        seconds: time to read what may have changed, one checkpoint at least; the merged table is
            judged by its size, and a second call decides about invalid files. None: read
            everything, and judge invalid files twice, after a pause.

    Raises:
        LakeError: the lake cannot be reached; then nothing is marked as lost.
    """
    alignment = align_partitions(instance, plan)
    look = _Look(instance, pipeline, plan)
    idle = [planned for planned in plan.checkpoints if not look.is_in_progress(planned)]
    found = Reconciliation(
        alignment=alignment,
        is_complete=all(planned.number in look.digests for planned in plan.checkpoints),
        in_progress=len(plan.checkpoints) - len(idle),
    )
    if seconds is None:
        look.read_all(found, idle)
    else:
        look.read_changed(found, idle, time.monotonic() + seconds)
    look.show_as_failed(failures, found.lost)
    found.merged = _reconcile_merged(instance, pipeline, plan, failures, thorough=seconds is None)
    return found


class _Look:
    """One look at the checkpoints of a plan: their files, and the state that Dagster shows.

    The latest observation of a partition holds the version of files that were found invalid.
    """

    def __init__(self, instance: dg.DagsterInstance, pipeline: Pipeline, plan: Plan) -> None:
        self._instance, self._pipeline = instance, pipeline
        self.digests = checkpoint_digests(pipeline.lake)
        keys = [planned.partition_key for planned in plan.checkpoints]
        self._statuses = (
            instance.get_status_by_partition(CHUNK_SUMMARIES, keys, checkpoint_partitions) or {}
        )
        self._materialized, self._observed = (
            # One query each; asking for the latest event of each partition would take 10,000.
            instance.event_log_storage.get_latest_tags_by_partition(
                CHUNK_SUMMARIES, kind, [DATA_VERSION_TAG]
            )
            for kind in (
                dg.DagsterEventType.ASSET_MATERIALIZATION,
                dg.DagsterEventType.ASSET_OBSERVATION,
            )
        )
        self._is_refreshing = bool(run_in_progress(instance, REFRESH))

    def is_in_progress(self, planned: PlannedCheckpoint) -> bool:
        """Whether a run may be working on a checkpoint."""
        if self._is_refreshing and not self._is_green(planned):
            return True
        return self._statuses.get(planned.partition_key) is dg.AssetPartitionStatus.IN_PROGRESS

    def read_all(self, found: Reconciliation, idle: Sequence[PlannedCheckpoint]) -> None:
        """Judge every checkpoint; a green one that is invalid is judged twice, after a pause."""
        suspected = []
        for state in check_checkpoints(self._pipeline.lake, idle):
            is_green = self._is_green(state.planned)
            if not state.is_valid:
                suspected += [state.planned] if is_green else []
            elif not is_green or not self._is_settled(state.planned):
                self._adopt(found, state)
        if suspected:
            time.sleep(SECOND_LOOK_SECONDS)
            states = check_checkpoints(self._pipeline.lake, suspected)
            found.lost += [_without_content(state) for state in states if not state.is_valid]

    def read_changed(
        self, found: Reconciliation, idle: Sequence[PlannedCheckpoint], deadline: float
    ) -> None:
        """Judge the checkpoints whose files are not those that Dagster shows, until the deadline.

        Suspected ones come first, then those that Dagster does not show, so that each is judged.
        """
        changed = []
        for planned in idle:
            is_green = self._is_green(planned)
            if (is_green or planned.number in self.digests) and not self._is_settled(planned):
                version = _tag(self._observed, planned)
                is_suspected = is_green and version == self._version(planned)
                changed.append((not is_suspected, is_green, planned))
        if not changed:
            return
        changed.sort(key=itemgetter(0, 1))
        states = check_checkpoints(self._pipeline.lake, [planned for *_, planned in changed])
        looks = zip(states, changed, strict=True)
        for count, (state, (is_new, is_green, _)) in enumerate(looks, 1):
            if state.is_valid:
                self._adopt(found, state)
            elif is_green and not is_new:
                found.lost.append(_without_content(state))
            else:
                found.suspected += [_without_content(state)] if is_green else []
                self._observe(state, {})
            is_much = max(len(found.lost), len(found.suspected)) >= _LOSSES_AT_ONCE
            if is_much or time.monotonic() > deadline:
                found.left = len(changed) - count
                return

    def show_as_failed(self, failures: RecordedFailures, lost: Sequence[CheckpointState]) -> None:
        """Turn partitions red, with the reason on each and in a recorded run per range."""
        keys = self._instance.get_dynamic_partitions(PARTITIONS)
        place = {key: index for index, key in enumerate(keys)}
        placed = sorted(
            ((place[state.planned.partition_key], state) for state in lost), key=itemgetter(0)
        )
        ranges = groupby(enumerate(placed), key=lambda one: one[1][0] - one[0])
        for some in ([state for _, (_, state) in members] for _, members in ranges):
            run = failures.record(
                self._instance,
                "summarize",
                "these checkpoints were complete, and on the lake they are not any more: "
                f"{first_names([state.describe() for state in some])}. Re-execute this run, or "
                "materialize the failed partitions of chunk_summaries, to compute them again.",
                {
                    RANGE_START_TAG: some[0].planned.partition_key,
                    RANGE_END_TAG: some[-1].planned.partition_key,
                },
            )
            for state in some:
                self._observe(state, {"failed_run": dg.MetadataValue.dagster_run(run.run_id)})

    def _is_green(self, planned: PlannedCheckpoint) -> bool:
        status = self._statuses.get(planned.partition_key)
        return status is dg.AssetPartitionStatus.MATERIALIZED

    def _version(self, planned: PlannedCheckpoint) -> str:
        """Return the data version of the files; of absent ones it names those that are shown."""
        digest = self.digests.get(planned.number)
        if digest is None:
            return f"{_tag(self._materialized, planned)} is gone"
        return shown_version(planned, digest)

    def _is_settled(self, planned: PlannedCheckpoint) -> bool:
        """Whether Dagster shows these files already, as valid or as invalid."""
        events = self._materialized if self._is_green(planned) else self._observed
        return _tag(events, planned) == self._version(planned)

    def _adopt(self, found: Reconciliation, state: CheckpointState) -> None:
        digest = self.digests.get(state.planned.number, UNLISTED)
        event = materialization(self._pipeline, state, digest, reused=True, adopted=True)
        self._instance.report_runless_asset_event(event)
        found.adopted.append(state.planned.partition_key)

    def _observe(
        self, state: CheckpointState, metadata: Mapping[str, dg.DagsterRunMetadataValue]
    ) -> None:
        """Note on a partition which files are invalid, and why."""
        self._instance.report_runless_asset_event(
            dg.AssetObservation(
                CHUNK_SUMMARIES,
                partition=state.planned.partition_key,
                description=f"not valid: {state.reason}",
                metadata={"state": state.validity.value, "reason": state.reason, **metadata},
                tags={DATA_VERSION_TAG: self._version(state.planned)},
            )
        )


def _tag(versions: Mapping[str, Mapping[str, str]], planned: PlannedCheckpoint) -> str:
    return versions.get(planned.partition_key, {}).get(DATA_VERSION_TAG, "")


def _without_content(state: CheckpointState) -> CheckpointState:
    return CheckpointState(state.planned, state.validity, state.reason)


def _reconcile_merged(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    plan: Plan,
    failures: RecordedFailures,
    *,
    thorough: bool,
) -> MergedChange:
    """Adopt the plan's merged table if only the lake has it; fail a lost one.

    ``thorough`` reads the table whole, which takes half a minute for a million rows.
    """
    if run_in_progress(instance, "merge"):
        return MergedChange()
    version, suspected = _shown_table(instance)
    problems = "; ".join(merged_file_problems(pipeline.lake, thorough=thorough))
    if problems and version:
        if thorough:
            time.sleep(SECOND_LOOK_SECONDS)
            suspected, problems = problems, "; ".join(merged_file_problems(pipeline.lake))
        if not problems or problems != suspected:
            if problems:
                _observe_table(instance, problems, "")
            return MergedChange(suspected=problems)
        run = failures.record(
            instance,
            "merge",
            f"the merged table was complete, and on the lake it is not any more: {problems}. "
            "Materialize merged_summaries to make it again: no summary is computed for that.",
            {},
        )
        _observe_table(instance, problems, run.run_id)
        return MergedChange(lost=problems, failed_run=run.run_id)
    merged = None if problems else current_merged_table(pipeline.lake)
    if merged is None or merged.plan_id != plan.plan_id or merged.csv_sha256 == version:
        return MergedChange()
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            MERGED_SUMMARIES,
            metadata={**record_metadata(pipeline, merged), "adopted": True},
            tags={DATA_VERSION_TAG: merged.csv_sha256},
        )
    )
    return MergedChange(adopted=True)


def _shown_table(instance: dg.DagsterInstance) -> tuple[str, str]:
    """Data version of the table that Dagster shows, and why it is suspected; empty for none."""
    made = instance.fetch_materializations(MERGED_SUMMARIES, limit=1).records
    noted = instance.fetch_observations(MERGED_SUMMARIES, limit=1).records
    event = made[0].asset_materialization if made else None
    version = "" if event is None else (event.tags or {}).get(DATA_VERSION_TAG, "")
    note = noted[0].asset_observation if noted else None
    if note is None or (made and noted[0].storage_id < made[0].storage_id):
        return version, ""
    if "failed_run" in note.metadata:
        return "", ""
    return version, str(note.metadata["reason"].value)


def _observe_table(instance: dg.DagsterInstance, problems: str, failed_run: str) -> None:
    metadata = {"failed_run": dg.MetadataValue.dagster_run(failed_run)} if failed_run else {}
    instance.report_runless_asset_event(
        dg.AssetObservation(
            MERGED_SUMMARIES,
            description=f"not valid: {problems}",
            metadata={"reason": problems, **metadata},
        )
    )
