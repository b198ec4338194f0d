"""Read a lake once and judge it: checkpoints, merged table, damage, and differences from settings.

A run, ``status``, ``verify``, merge and the pages of assets share this reading.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from reviewsum_assets.checkpoints.manifest import (
    Manifest,
    damaged_chunks,
    damaged_references,
    read_rows,
)
from reviewsum_assets.checkpoints.merge import (
    MERGED_PARQUET_SCHEMA,
    MergedTable,
    content_digest,
    current_merged_table,
)
from reviewsum_assets.checkpoints.plan import (
    Plan,
    PlannedCheckpoint,
    partition_key,
    plan_times,
    read_plan,
    read_table,
    require_plan,
)
from reviewsum_assets.checkpoints.validity import (
    CheckpointState,
    check_checkpoints,
    checkpoint_digests,
    damaged_inputs,
    plan_problems,
)
from reviewsum_assets.errors import ReviewsumError, first_names
from reviewsum_assets.job.models import directory
from reviewsum_assets.job.models.conversion import damaged_conversion
from reviewsum_assets.job.models.directory import damaged_model
from reviewsum_assets.reviews import grouping
from reviewsum_assets.reviews.grouping import damaged_tables
from reviewsum_assets.settings import Settings, SummarySettings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from reviewsum_assets.storage.records import file_sha256
from reviewsum_assets.storage.tables import UNREADABLE, first_line, require_columns


@dataclass(frozen=True)
class Totals:
    """Sums over the products of a checkpoint; tokens are those of the model."""

    chunks: int
    chunks_reused: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class JudgedCheckpoint:
    """A checkpoint as judged, small enough to keep 10,000 of them in memory.

    ``state`` has no rows and, where it is valid, the manifest without its products; ``totals`` are
    theirs.
    """

    state: CheckpointState
    totals: Totals

    @classmethod
    def of(cls, state: CheckpointState) -> JudgedCheckpoint:
        """Drop what would fill the memory."""
        manifest = state.manifest
        if manifest is None:
            return cls(CheckpointState(state.planned, state.validity, state.reason), _NO_TOTALS)
        return cls(
            CheckpointState(
                state.planned, state.validity, manifest=manifest.model_copy(update={"products": ()})
            ),
            Totals(**{name: getattr(manifest, name) for name in Totals.__dataclass_fields__}),
        )


_NO_TOTALS = Totals(0, 0, 0, 0)


@dataclass(frozen=True)
class LakeStatus:
    """Every checkpoint of a plan; product counts are of selected products only.

    ``content`` is the ``content_digest`` of the valid checkpoints.
    """

    plan: Plan
    checkpoints: tuple[JudgedCheckpoint, ...]
    summarized: int
    quarantined: int
    content: str
    merged: MergedTable | None

    @property
    def states(self) -> tuple[CheckpointState, ...]:
        """The state of each checkpoint."""
        return tuple(one.state for one in self.checkpoints)

    @property
    def manifests(self) -> list[tuple[CheckpointState, Manifest]]:
        """The valid checkpoints with their manifests, which lack the products."""
        return [(s, s.manifest) for s in self.states if s.manifest is not None]

    @property
    def incomplete(self) -> tuple[CheckpointState, ...]:
        """The checkpoints still to be computed."""
        return tuple(state for state in self.states if not state.is_valid)

    @property
    def pending(self) -> int:
        """Selected products without a summary or a quarantine entry."""
        return self.plan.selected - self.summarized - self.quarantined

    @property
    def chunks(self) -> int:
        """Chunks of all valid checkpoints."""
        return sum(one.totals.chunks for one in self.checkpoints)

    @property
    def is_merged(self) -> bool:
        """Whether the merged table is the current plan's and lacks nothing."""
        return self.merged is not None and self.merged.is_whole(self.plan, self.content)


class LakeState:
    """One reading of a lake, shared by all steps of a process.

    Plans never change, and checkpoints only with the digest of their files: both are read again
    only when a listing shows others.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._plan: Plan | None = None
        self._judged: dict[int, tuple[str, JudgedCheckpoint]] = {}

    def plan(self) -> Plan | None:
        """Return the current plan, or None before the first one.

        Raises:
            PlanError: it cannot be read.
        """
        newest = max(plan_times(self.lake), default=None)
        if newest is None:
            return None
        if self._plan is None or self._plan.sequence != newest:
            self._plan = read_plan(self.lake, newest)
        return self._plan

    def checkpoints(self, plan: Plan) -> tuple[JudgedCheckpoint, ...]:
        """Judge the checkpoints of a plan; those whose files have not changed are not read again.

        Raises:
            LakeError: the lake is out of reach.
        """
        digests = checkpoint_digests(self.lake)
        judged = {
            planned.number: known
            for planned in plan.checkpoints
            if (known := self._known(planned, digests.get(planned.number))) is not None
        }
        unknown = [planned for planned in plan.checkpoints if planned.number not in judged]
        for state in check_checkpoints(self.lake, unknown):
            number = state.planned.number
            judged[number] = JudgedCheckpoint.of(state)
            if state.is_valid and number in digests:
                self._judged[number] = digests[number], judged[number]
        return tuple(judged[planned.number] for planned in plan.checkpoints)

    def status(self) -> LakeStatus | None:
        """Judge every checkpoint of the current plan; None before the first plan.

        Raises:
            PlanError: the plan or its table cannot be read.
        """
        plan = self.plan()
        return None if plan is None else self.status_of(plan)

    def status_of(self, plan: Plan) -> LakeStatus:
        """Judge every checkpoint of a plan.

        Raises:
            PlanError: its table cannot be read.
        """
        judged = self.checkpoints(plan)
        selected = read_table(self.lake, plan).filter("selected").select("product_id", "checkpoint")
        counts = dict(selected["checkpoint"].value_counts().iter_rows())
        valid = [(s.planned.number, s.manifest) for one in judged if (s := one.state).manifest]
        held = sum(counts.get(number, 0) for number, _ in valid)
        failed = pl.DataFrame(
            [(q.product_id, number) for number, m in valid if m for q in m.quarantined],
            schema=selected.schema,
            orient="row",
        )
        quarantined = failed.join(selected, on=["product_id", "checkpoint"]).height
        return LakeStatus(
            plan=plan,
            checkpoints=judged,
            summarized=held - quarantined,
            quarantined=quarantined,
            content=content_digest({number: m.csv_sha256 for number, m in valid if m}),
            merged=current_merged_table(self.lake),
        )

    def _known(self, planned: PlannedCheckpoint, digest: str | None) -> JudgedCheckpoint | None:
        known = self._judged.get(planned.number)
        if known is None or known[0] != digest or known[1].state.planned != planned:
            return None
        return known[1]


def lake_status(lake: Lake) -> LakeStatus | None:
    """Judge every checkpoint of the current plan, or None before the first plan."""
    return LakeState(lake).status()


def verify_lake(lake: Lake) -> list[str]:
    """Everything that is off on the lake, one sentence each; empty if all is well.

    Raises:
        PlanError: there is no plan to verify against.
    """
    plan = require_plan(lake)
    problems = plan_problems(lake, plan)
    expected: set[str] = set()
    holders = dict(
        read_table(lake, plan).filter("selected").select("product_id", "checkpoint").iter_rows()
    )
    for state in check_checkpoints(lake, plan.checkpoints):
        if not state.is_valid:
            problems.append(state.describe())
        expected.update(
            row.product_id
            for row in state.rows
            if holders.get(row.product_id) == state.planned.number
        )
    return problems + _merged_problems(lake, plan, expected)


def merged_file_problems(lake: Lake, *, thorough: bool = True) -> list[str]:
    """How the files of the last merge differ from what was merged; by their sizes if not thorough.

    Thorough is to read them whole.
    """
    merged = current_merged_table(lake)
    if merged is None:
        return ["merged_summaries has no readable record: materialize it"]
    if not thorough:
        return _size_problems(lake, merged)
    with tempfile.TemporaryDirectory(prefix="reviewsum-verify-") as scratch:
        return _file_problems(lake, merged, Path(scratch))


def _merged_problems(lake: Lake, plan: Plan, expected: set[str]) -> list[str]:
    merged = current_merged_table(lake)
    if merged is None:
        return merged_file_problems(lake)
    if merged.plan_id != plan.plan_id:
        return [f"merged_summaries was made for plan {merged.plan_id}, current is {plan.plan_id}"]
    with tempfile.TemporaryDirectory(prefix="reviewsum-verify-") as scratch:
        return _file_problems(lake, merged, Path(scratch)) or _row_problems(Path(scratch), expected)


def _size_problems(lake: Lake, merged: MergedTable) -> list[str]:
    problems = []
    for key, size in (
        (places.MERGED_CSV, merged.csv_bytes),
        (places.MERGED_PARQUET, merged.parquet_bytes),
    ):
        found = lake.head(key)
        if found is None:
            problems.append(f"{key} is missing")
        elif found.size != size:
            problems.append(f"{key} has {found.size:,} bytes, {size:,} were merged")
    return problems


def _file_problems(lake: Lake, merged: MergedTable, scratch: Path) -> list[str]:
    """Copy the merged files to ``scratch`` and compare their hashes."""
    problems = []
    for key, sha256 in (
        (places.MERGED_CSV, merged.csv_sha256),
        (places.MERGED_PARQUET, merged.parquet_sha256),
        (places.MERGED_SPREADSHEET, merged.spreadsheet_sha256),
    ):
        if not sha256:
            continue
        path = scratch / Path(key).name
        if lake.head(key) is None:
            problems.append(f"{key} is missing")
            continue
        lake.download(key, path)
        if file_sha256(path) != sha256:
            problems.append(f"{key} is not the file that was merged: its SHA-256 differs")
    return problems


def _row_problems(scratch: Path, expected: set[str]) -> list[str]:
    """Whether the table holds every expected product once, in both formats."""
    csv_path = scratch / Path(places.MERGED_CSV).name
    parquet_path = scratch / Path(places.MERGED_PARQUET).name
    try:
        with csv_path.open(encoding="utf-8", newline="") as file:
            found = Counter(row.product_id for row in read_rows(file))
        rows = _parquet_rows(parquet_path)
    except ValueError as error:
        return [f"merged_summaries cannot be read: {error}"]
    problems = [
        f"merged_summaries {what}: {first_names(sorted(ids))}"
        for what, ids in (
            ("lacks products", expected - found.keys()),
            ("holds products that are not selected", found.keys() - expected),
            ("holds products twice", {p for p, count in found.items() if count > 1}),
        )
        if ids
    ]
    if rows != found.total():
        problems.append("the Parquet table has another number of rows than the CSV")
    return problems


def _parquet_rows(path: Path) -> int:
    """How many rows there are.

    Raises:
        ValueError: it is damaged, or has other columns.
    """
    try:
        parquet = pl.scan_parquet(path)
        require_columns(parquet.collect_schema(), MERGED_PARQUET_SCHEMA)
        rows: int = parquet.select(pl.len()).collect().item()
    except UNREADABLE as error:
        raise ValueError(first_line(error)) from error
    return rows


_DECIDING = ("top_k", "min_review_chars", "min_reviews", "model")


def plan_differences(lake: Lake, plan: Plan, settings: Settings) -> list[str]:
    """What was planned otherwise, as people name it: dumps, model, settings with both values.

    Reads neither dumps nor model files, and changes nothing. What cannot be found now is a
    difference too, and says why.
    """
    return [
        *_dumps(lake, plan, settings),
        *_model(lake, plan, settings),
        *_settings(plan, settings),
    ]


def planned_settings(settings: Settings) -> str:
    """Fingerprint of the settings that decide a plan, dumps apart."""
    content = json.dumps(_deciding(settings), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def setting_differences(environment: Settings, settings: Settings) -> list[str]:
    """The settings that decide a plan and that a run has otherwise than its environment."""
    changes = _changes(_deciding(environment), _deciding(settings))
    dumps = [] if settings.dumps == environment.dumps else ["other dumps"]
    return dumps + [f"{name} {now} (environment: {usual})" for name, usual, now in changes]


def unused_overrides(
    overrides: Mapping[str, Any], settings: Settings, environment: Settings
) -> list[str]:
    """The overrides of a run that change nothing, with the reason of each."""
    used = settings.summary_settings().deciding()
    found = []
    for name in overrides:
        value = getattr(settings, name)
        if value == getattr(environment, name):
            found.append(f"{name} is {value} without it too")
        elif name in SummarySettings.model_fields and name not in {*used, "strategy"}:
            found.append(f"strategy {settings.strategy} does not use {name}")
    return found


def overridden_plan(overrides: Iterable[str], plan: Plan, settings: Settings) -> list[str]:
    """The overrides that a run over planned checkpoints ignores: the plan decides them."""
    return _settings(plan, settings, set(overrides))


def _deciding(settings: Settings) -> dict[str, Any]:
    return {
        **settings.summary_settings().deciding(),
        **{name: getattr(settings, name) for name in _DECIDING},
    }


def _dumps(lake: Lake, plan: Plan, settings: Settings) -> list[str]:
    try:
        record = grouping.current_grouped_reviews(lake)
        is_current = grouping.is_current(lake, settings)
    except ReviewsumError as error:
        return [f"dumps ({error})"]
    if is_current and record is not None and record.version == plan.grouped_version:
        return []
    return ["dumps, or how they are read"]


def _model(lake: Lake, plan: Plan, settings: Settings) -> list[str]:
    try:
        if directory.is_current(lake, settings):
            model, _ = directory.ready_model(lake, settings)
            if model.version == plan.recipes[plan.recipe].model_version:
                return []
    except ReviewsumError as error:
        return [f"model ({error})"]
    return ["model"]


def _settings(plan: Plan, settings: Settings, names: Container[str] | None = None) -> list[str]:
    """The settings, or those with these names, that differ from the plan's, with both values."""
    planned, wanted = plan.recipes[plan.recipe].settings, settings.summary_settings()
    before = {"top_k": plan.top_k, **planned.deciding()}
    now = {"top_k": settings.top_k, **wanted.deciding()}
    return [
        f"{name} {was} -> {is_now}"
        for name, was, is_now in _changes(before, now)
        if names is None or name in names
    ]


def _changes(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """Name, former and present value of each setting that differs."""
    for name in {**now, **before}:
        if before.get(name) != now.get(name):
            yield name, before.get(name, "not used"), now.get(name, "not used")


def verify(lake: Lake) -> list[str]:
    """Everything that is off on the lake, a sentence each; empty if all is well. Reads it all.

    Raises:
        PlanError: there is no plan to verify against.
    """
    plan = require_plan(lake)
    damaged = _damaged_sources(lake, plan) + damaged_references(lake)
    return [
        *verify_lake(lake),
        *(f"{key} is missing or not what was written" for key in damaged),
        *(
            f"{key} is missing or not what was written: `reviewsum explain` lacks the chunk "
            f"summaries of {partition_key(number)}. To fix: materialize that partition of "
            "chunk_summaries with recompute"
            for number, key in damaged_chunks(lake, plan).items()
        ),
    ]


def remove_damaged(lake: Lake, plan: Plan) -> None:
    """Remove what is damaged of the sources of results, and canary references: all is made again.

    Damaged chunk summaries stay: only `explain` needs them, and a computation would be paid for.

    Only on a disk, where bytes change by themselves. S3 keeps checksums of its own, and reading
    gigabytes from it would make every run wait.
    """
    if lake.directory is not None:
        inputs = [planned.input_key for planned in damaged_inputs(lake, plan)]
        for key in [*inputs, *_damaged_sources(lake, plan), *damaged_references(lake)]:
            lake.delete(key)


def _damaged_sources(lake: Lake, plan: Plan) -> list[str]:
    """Keys of grouped tables and files of the model that are gone or not what was written."""
    model = plan.recipes[plan.recipe].model_version
    return damaged_tables(lake) + damaged_model(lake, model) + damaged_conversion(lake, model)
