"""Make Dagster's state agree with the lake, which decides.

A valid checkpoint that Dagster does not show is adopted: materialized without a run. A checkpoint
that Dagster shows and that is missing or invalid turns red, by a recorded run that executed nothing
and gives the reason. Partitions of runs in progress are left to these runs.

Dagster's event log is the memory. The data version of a partition names the files that were judged:
one listing and three queries tell which checkpoints have to be read. Another instance may be
writing a checkpoint or the merged table, so that an invalid one is observed first, and lost only if
a second look finds the same files and the same fault.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from reviewsum_assets.assets.merged_summaries import merged_metadata, record_metadata
from reviewsum_assets.assets.partitions import (
    CHUNK_SUMMARIES,
    DATA_VERSION_TAG,
    MERGED_SUMMARIES,
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
# As in workspace.yaml.
_LOCATION = InProcessCodeLocationOrigin(
    LoadableTargetOrigin(module_name="reviewsum_assets.definitions"),
    location_name="reviewsum_assets",
)


@dataclass(frozen=True)
class RecordedFailures:
    """Record failed runs of the jobs of a repository: only a run can turn an asset red.

    Such a run can be re-executed and causes an alert, like any other.
    """

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
    """Change of the merged table's state; ``lost`` and ``suspected`` are reasons or empty."""

    adopted: bool = False
    lost: str = ""
    failed_run: str = ""  # the recorded run that gives the reason
    suspected: str = ""  # the next look decides


@dataclass
class Reconciliation:
    """Changes of Dagster's state.

    ``suspected`` checkpoints are decided by the next call; ``left`` were not looked at for lack of
    time; ``in_progress`` are left to runs. ``is_complete``: the files of every planned checkpoint
    are there.
    """

    alignment: Alignment
    is_complete: bool
    in_progress: int
    adopted: list[str] = field(default_factory=list)
    lost: list[CheckpointState] = field(default_factory=list)
    suspected: list[CheckpointState] = field(default_factory=list)
    merged: MergedChange = field(default_factory=MergedChange)
    left: int = 0

    @property
    def did_nothing(self) -> bool:
        """Whether Dagster and the lake agreed already, as far as this call looked."""
        alignment, merged = self.alignment, self.merged
        changed = (alignment.added, alignment.retired, self.adopted, self.lost)
        return not any(changed) and not merged.adopted and not merged.lost

    def told(self) -> list[str]:
        """Return a sentence per kind of change, with names and reasons; at least one."""
        told = [
            f"{len(keys)} {what}: {first_names(keys)}"
            for what, keys in (
                ("partitions added", self.alignment.added),
                ("partitions retired", self.alignment.retired),
                ("checkpoints adopted", self.adopted),
                ("checkpoints lost", [state.describe() for state in self.lost]),
                ("checkpoints suspected", [state.describe() for state in self.suspected]),
            )
            if keys
        ]
        if self.merged.adopted:
            told.append("merged_summaries adopted")
        if self.merged.lost:
            told.append(f"merged_summaries lost: {self.merged.lost}")
        if self.merged.suspected:
            told.append(f"merged_summaries suspected: {self.merged.suspected}")
        if self.did_nothing and not (self.left or self.suspected or self.merged.suspected):
            told.append("Dagster and the lake agree")
        if self.in_progress:
            told.append(f"{self.in_progress} left to runs in progress")
        if self.left:
            told.append(f"{self.left} still to be looked at")
        return told


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
        instance: whose state is changed.
        pipeline: its lake decides.
        plan: the current plan.
        failures: record the runs of lost checkpoints and of a lost table.
        seconds: time to read what may have changed, one checkpoint at least; the merged table is
            judged by its size, and invalid files are left to a second call. None: read everything,
            and look a second time at invalid files after a pause.

    Raises:
        LakeError: the lake is out of reach. Nothing is called lost because of that.
    """
    alignment = align_partitions(instance, plan)
    look = _Look(instance, pipeline, checkpoint_digests(pipeline.lake), _Shown.of(instance, plan))
    idle = [planned for planned in plan.checkpoints if not look.shown.is_in_progress(planned)]
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


@dataclass(frozen=True)
class _Shown:
    """Dagster's state of the partitions, by partition key: status, and data versions of events.

    ``observed`` is the version of the files that were last found invalid.
    """

    statuses: Mapping[str, dg.AssetPartitionStatus | None]
    materialized: Mapping[str, Mapping[str, str]]
    observed: Mapping[str, Mapping[str, str]]
    is_refreshing: bool

    @classmethod
    def of(cls, instance: dg.DagsterInstance, plan: Plan) -> _Shown:
        keys = [planned.partition_key for planned in plan.checkpoints]
        materialized, observed = (
            # One query each; asking for the latest event of each partition would take 10,000.
            instance.event_log_storage.get_latest_tags_by_partition(
                CHUNK_SUMMARIES, kind, [DATA_VERSION_TAG]
            )
            for kind in (
                dg.DagsterEventType.ASSET_MATERIALIZATION,
                dg.DagsterEventType.ASSET_OBSERVATION,
            )
        )
        statuses = instance.get_status_by_partition(CHUNK_SUMMARIES, keys, checkpoint_partitions)
        is_refreshing = bool(run_in_progress(instance, REFRESH))
        return cls(statuses or {}, materialized, observed, is_refreshing)

    def is_in_progress(self, planned: PlannedCheckpoint) -> bool:
        """Whether a run may be working on it."""
        status = self.statuses.get(planned.partition_key)
        is_open = self.is_refreshing and status is not dg.AssetPartitionStatus.MATERIALIZED
        return is_open or status is dg.AssetPartitionStatus.IN_PROGRESS

    def is_green(self, planned: PlannedCheckpoint) -> bool:
        status = self.statuses.get(planned.partition_key)
        return status is dg.AssetPartitionStatus.MATERIALIZED

    def version(self, planned: PlannedCheckpoint, digest: str | None) -> str:
        """Return the data version of files; of absent ones it names those that Dagster shows."""
        if digest is None:
            return f"{self._tag(self.materialized, planned)} is gone"
        return shown_version(planned, digest)

    def is_settled(self, planned: PlannedCheckpoint, version: str) -> bool:
        """Whether Dagster shows these files already, as valid or as invalid."""
        events = self.materialized if self.is_green(planned) else self.observed
        return self._tag(events, planned) == version

    def is_suspected(self, planned: PlannedCheckpoint, version: str) -> bool:
        """Whether the last call found these files invalid where Dagster shows valid ones."""
        return self.is_green(planned) and self._tag(self.observed, planned) == version

    @staticmethod
    def _tag(versions: Mapping[str, Mapping[str, str]], planned: PlannedCheckpoint) -> str:
        return versions.get(planned.partition_key, {}).get(DATA_VERSION_TAG, "")


@dataclass(frozen=True)
class _Look:
    """One look at the checkpoints; ``digests`` are of their files, by number."""

    instance: dg.DagsterInstance
    pipeline: Pipeline
    digests: Mapping[int, str]
    shown: _Shown

    def read_all(self, found: Reconciliation, idle: Sequence[PlannedCheckpoint]) -> None:
        """Judge every checkpoint; a green one that is invalid is judged twice, after a pause."""
        suspected = []
        for state in check_checkpoints(self.pipeline.lake, idle):
            is_green = self.shown.is_green(state.planned)
            if not state.is_valid:
                suspected += [state.planned] if is_green else []
            elif not is_green or not self.shown.is_settled(state.planned, self._version(state)):
                self._adopt(found, state)
        if suspected:
            time.sleep(SECOND_LOOK_SECONDS)
            states = check_checkpoints(self.pipeline.lake, suspected)
            found.lost += [_without_content(state) for state in states if not state.is_valid]

    def read_changed(
        self, found: Reconciliation, idle: Sequence[PlannedCheckpoint], deadline: float
    ) -> None:
        """Judge the checkpoints whose files are not those that Dagster shows, until the deadline.

        Suspected ones come first, then those that Dagster does not show: none waits for ever.
        """
        changed = []
        for planned in idle:
            digest, is_green = self.digests.get(planned.number), self.shown.is_green(planned)
            version = self.shown.version(planned, digest)
            if (digest or is_green) and not self.shown.is_settled(planned, version):
                changed.append((not self.shown.is_suspected(planned, version), is_green, planned))
        if not changed:
            return
        changed.sort(key=lambda one: one[:2])
        states = check_checkpoints(self.pipeline.lake, [planned for *_, planned in changed])
        for count, (state, (is_new, is_green, _)) in enumerate(
            zip(states, changed, strict=True), 1
        ):
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
        """Turn partitions red, with the reason on each and in the recorded run."""
        for some in _contiguous(self.instance, lost):
            run = failures.record(
                self.instance,
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

    def _version(self, state: CheckpointState) -> str:
        return self.shown.version(state.planned, self.digests.get(state.planned.number))

    def _adopt(self, found: Reconciliation, state: CheckpointState) -> None:
        digest = self.digests.get(state.planned.number, UNLISTED)
        event = materialization(self.pipeline, state, digest, reused=True, adopted=True)
        self.instance.report_runless_asset_event(event)
        found.adopted.append(state.planned.partition_key)

    def _observe(
        self, state: CheckpointState, metadata: Mapping[str, dg.DagsterRunMetadataValue]
    ) -> None:
        """Note on a partition which files are invalid, and why."""
        self.instance.report_runless_asset_event(
            dg.AssetObservation(
                CHUNK_SUMMARIES,
                partition=state.planned.partition_key,
                description=f"not valid: {state.reason}",
                metadata={"state": state.validity.value, "reason": state.reason, **metadata},
                tags={DATA_VERSION_TAG: self._version(state)},
            )
        )


def _without_content(state: CheckpointState) -> CheckpointState:
    return CheckpointState(state.planned, state.validity, state.reason)


def _contiguous(
    instance: dg.DagsterInstance, lost: Sequence[CheckpointState]
) -> Iterator[list[CheckpointState]]:
    """Group checkpoints that follow each other in Dagster's order: a run takes a range."""
    name = checkpoint_partitions.name
    assert name is not None
    place = {key: index for index, key in enumerate(instance.get_dynamic_partitions(name))}
    some: list[CheckpointState] = []
    for state in sorted(lost, key=lambda state: place[state.planned.partition_key]):
        here = place[state.planned.partition_key]
        if some and place[some[-1].planned.partition_key] + 1 != here:
            yield some
            some = []
        some.append(state)
    if some:
        yield some


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
    metadata = (
        merged_metadata(pipeline, plan, merged) if thorough else record_metadata(pipeline, merged)
    )
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            MERGED_SUMMARIES,
            metadata={**metadata, "adopted": True},
            tags={DATA_VERSION_TAG: merged.csv_sha256},
        )
    )
    return MergedChange(adopted=True)


def _shown_table(instance: dg.DagsterInstance) -> tuple[str, str]:
    """Return the data version of the table that Dagster shows, and why it is suspected.

    Both are empty for none; a lost table is not shown any more.
    """
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
